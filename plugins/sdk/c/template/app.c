/* Looks for a word in the body of a page. */

#include <stdlib.h>
#include <string.h>

#include "monmon.h"

static char *word;

void exports_matcher_describe(matcher_description_t *ret) {
  matcher_string_dup(&ret->name, "plugin-name");
  matcher_string_dup(&ret->version, "0.1.0");
  matcher_string_dup(&ret->help, "looks for a word in the body");
  ret->needs = MONMON_MATCHER_TYPES_NEEDS_BODY;
  ret->parameters.len = 1;
  ret->parameters.ptr = calloc(1, sizeof *ret->parameters.ptr);
  monmon_parameter(ret->parameters.ptr, "word", MONMON_MATCHER_TYPES_KIND_TEXT, true,
                   "the word that the body must have");
}

bool exports_matcher_configure(matcher_string_t *config, matcher_string_t *err) {
  word = monmon_config_text(config, "word");
  matcher_string_free(config);
  if (word && *word) return true;
  matcher_string_dup(err, "`word` is empty");
  return false;
}

bool exports_matcher_check(matcher_response_t *response, matcher_verdict_t *ret, matcher_string_t *err) {
  (void)err;
  memset(ret, 0, sizeof *ret);
  ret->matched = monmon_find(response->body.ptr, response->body.len, word) != NULL;
  if (!ret->matched) {
    ret->message.is_some = true;
    matcher_string_dup(&ret->message.val, "the word is missing");
  }
  ret->metrics.len = 1;
  ret->metrics.ptr = calloc(1, sizeof *ret->metrics.ptr);
  matcher_string_dup(&ret->metrics.ptr->name, "size");
  ret->metrics.ptr->value = response->body.len;
  matcher_string_dup(&ret->metrics.ptr->unit, "bytes");
  matcher_response_free(response);
  return true;
}
