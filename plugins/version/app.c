/* Reads the number that follows a text, such as a price, a version or a count: a metric, held against bounds. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monmon.h"

/* How far behind the text the number may begin, in bytes: tags and white space may stand between. */
enum { GAP_MAX = 200, DIGITS_MAX = 40 };

static struct {
  char *after, *name, *unit;
  double min, max;
  bool decimal_comma;
} config;

void exports_matcher_describe(matcher_description_t *ret) {
  matcher_string_dup(&ret->name, "version");
  matcher_string_dup(&ret->version, "0.1.0");
  matcher_string_dup(&ret->help, "reads the number that follows a text, and holds it against bounds");
  ret->needs = MONMON_MATCHER_TYPES_NEEDS_BODY;
  ret->parameters.len = 6;
  ret->parameters.ptr = calloc(6, sizeof *ret->parameters.ptr);
  monmon_matcher_types_parameter_t *at = ret->parameters.ptr;
  monmon_parameter(at++, "after", MONMON_MATCHER_TYPES_KIND_TEXT, true, "the text that the number follows");
  monmon_parameter(at++, "name", MONMON_MATCHER_TYPES_KIND_TEXT, false, "the metric's name, `number` if not given");
  monmon_parameter(at++, "unit", MONMON_MATCHER_TYPES_KIND_TEXT, false, "the metric's unit, such as EUR");
  monmon_parameter(at++, "min", MONMON_MATCHER_TYPES_KIND_NUMBER, false, "the least number that is good");
  monmon_parameter(at++, "max", MONMON_MATCHER_TYPES_KIND_NUMBER, false, "the greatest number that is good");
  monmon_parameter(at, "decimal", MONMON_MATCHER_TYPES_KIND_TEXT, false,
                   "`point` if not given: 1,234.5; `comma`: 1.234,5");
  at->one_of.len = 2;
  at->one_of.ptr = calloc(2, sizeof *at->one_of.ptr);
  matcher_string_dup(&at->one_of.ptr[0], "point");
  matcher_string_dup(&at->one_of.ptr[1], "comma");
}

bool exports_matcher_configure(matcher_string_t *given, matcher_string_t *err) {
  config.after = monmon_config_text(given, "after");
  config.name = monmon_config_text(given, "name");
  config.unit = monmon_config_text(given, "unit");
  if (!monmon_config_number(given, "min", &config.min)) config.min = -INFINITY;
  if (!monmon_config_number(given, "max", &config.max)) config.max = INFINITY;
  char *decimal = monmon_config_text(given, "decimal");
  config.decimal_comma = decimal && strcmp(decimal, "comma") == 0;
  free(decimal);
  matcher_string_free(given);
  const char *wrong = NULL;
  if (!config.after || !*config.after) wrong = "`after` is empty";
  if (config.min > config.max) wrong = "`min` is above `max`";
  if (wrong) matcher_string_dup(err, wrong);
  return wrong == NULL;
}

/* The digits at `at` as a number, without what groups them; where they end in `end`. */
static double number_at(const uint8_t *at, const uint8_t *last, const uint8_t **end) {
  char digits[DIGITS_MAX + 2];
  size_t count = 0;
  char decimal = config.decimal_comma ? ',' : '.', group = config.decimal_comma ? '.' : ',';
  bool has_decimal = false;
  if (at < last && *at == '-') digits[count++] = *at++;
  while (at < last && count < DIGITS_MAX) {
    bool more = at + 1 < last && at[1] >= '0' && at[1] <= '9';
    if (*at >= '0' && *at <= '9') {
      digits[count++] = *at;
    } else if (*at == decimal && !has_decimal && more) {
      digits[count++] = '.';
      has_decimal = true;
    } else if (*at != group || has_decimal || !more) {
      break;
    }
    at++;
  }
  digits[count] = 0;
  *end = at;
  return strtod(digits, NULL);
}

static bool is_digit(const uint8_t *at, const uint8_t *last) { return at < last && *at >= '0' && *at <= '9'; }

static void message(matcher_verdict_t *ret, const char *text) {
  ret->message.is_some = true;
  matcher_string_dup(&ret->message.val, text);
}

bool exports_matcher_check(matcher_response_t *response, matcher_verdict_t *ret, matcher_string_t *err) {
  memset(ret, 0, sizeof *ret);
  const uint8_t *body = response->body.ptr, *last = body + response->body.len;
  const uint8_t *at = monmon_find(body, response->body.len, config.after);
  bool cut = response->body_truncated;
  if (at) {
    at += strlen(config.after);
    const uint8_t *farthest = last - at > GAP_MAX ? at + GAP_MAX : last;
    while (at < farthest && !is_digit(at, last) && !(*at == '-' && is_digit(at + 1, last))) at++;
    if (at == farthest) at = NULL;
  }
  if (!at) {
    matcher_response_free(response);
    if (cut) {
      matcher_string_dup(err, "no number was found, but the page was cut off");
      return false;
    }
    message(ret, "no number follows the text");
    return true;
  }
  const uint8_t *end;
  double number = number_at(at, last, &end);
  ret->matched = number >= config.min && number <= config.max;
  if (!ret->matched) {
    char text[160];
    snprintf(text, sizeof text, "%g is not from %g to %g", number, config.min, config.max);
    message(ret, text);
  }
  const char *name = config.name ? config.name : "number";
  ret->values.len = 1;
  ret->values.ptr = calloc(1, sizeof *ret->values.ptr);
  matcher_string_dup(&ret->values.ptr->f0, name);
  matcher_string_dup_n(&ret->values.ptr->f1, (const char *)at, end - at);
  ret->metrics.len = 1;
  ret->metrics.ptr = calloc(1, sizeof *ret->metrics.ptr);
  matcher_string_dup(&ret->metrics.ptr->name, name);
  ret->metrics.ptr->value = number;
  matcher_string_dup(&ret->metrics.ptr->unit, config.unit ? config.unit : "");
  matcher_response_free(response);
  return true;
}
