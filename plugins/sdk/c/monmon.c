#include "monmon.h"

#include <stdlib.h>
#include <string.h>

char *monmon_copy(const uint8_t *text, size_t length) {
  char *copy = malloc(length + 1);
  if (!copy) abort();
  memcpy(copy, text, length);
  copy[length] = 0;
  return copy;
}

const uint8_t *monmon_find(const uint8_t *bytes, size_t length, const char *text) {
  size_t size = strlen(text);
  if (size == 0 || size > length) return NULL;
  const uint8_t *end = bytes + length - size + 1;
  for (const uint8_t *at = bytes; at < end; at++) {
    at = memchr(at, text[0], end - at);
    if (!at) return NULL;
    if (memcmp(at, text, size) == 0) return at;
  }
  return NULL;
}

/* The end of the JSON string that begins at `at`, behind its quote. */
static const uint8_t *string_end(const uint8_t *at, const uint8_t *end) {
  while (at < end && *at != '"') at += *at == '\\' ? 2 : 1;
  return at < end ? at : end;
}

/* Where the value of this name begins. monmon gives a flat object of texts, numbers and flags, and lists of them. */
static const uint8_t *value_of(const matcher_string_t *config, const char *name) {
  const uint8_t *at = config->ptr, *end = at + config->len;
  size_t size = strlen(name);
  int depth = 0;
  while (at < end) {
    if (*at == '"') {
      const uint8_t *text = at + 1, *close = string_end(text, end);
      at = close < end ? close + 1 : end;
      bool is_name = depth == 1 && at < end && *at == ':';
      if (is_name && (size_t)(close - text) == size && memcmp(text, name, size) == 0) return at + 1;
      continue;
    }
    if (*at == '{' || *at == '[') depth++;
    if (*at == '}' || *at == ']') depth--;
    at++;
  }
  return NULL;
}

static int hex(uint8_t digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  return (digit | 32) - 'a' + 10;
}

char *monmon_config_text(const matcher_string_t *config, const char *name) {
  const uint8_t *at = value_of(config, name), *end = config->ptr + config->len;
  if (!at || at >= end || *at != '"') return NULL;
  const uint8_t *close = string_end(++at, end);
  char *text = monmon_copy(at, close - at), *into = text;
  while (at < close) {
    if (*at != '\\') {
      *into++ = *at++;
      continue;
    }
    at++;
    switch (*at) {
      case 'n': *into++ = '\n'; break;
      case 't': *into++ = '\t'; break;
      case 'r': *into++ = '\r'; break;
      case 'b': *into++ = '\b'; break;
      case 'f': *into++ = '\f'; break;
      case 'u': /* Only control characters come so. */
        *into++ = hex(at[3]) << 4 | hex(at[4]);
        at += 4;
        break;
      default: *into++ = *at;
    }
    at++;
  }
  *into = 0;
  return text;
}

bool monmon_config_number(const matcher_string_t *config, const char *name, double *value) {
  const uint8_t *at = value_of(config, name), *end = config->ptr + config->len;
  if (!at || at >= end) return false;
  char *copy = monmon_copy(at, end - at), *stop;
  *value = strtod(copy, &stop);
  bool is_number = stop != copy;
  free(copy);
  return is_number;
}

void monmon_parameter(monmon_matcher_types_parameter_t *parameter, const char *name,
                      monmon_matcher_types_kind_t kind, bool required, const char *help) {
  memset(parameter, 0, sizeof *parameter);
  matcher_string_dup(&parameter->name, name);
  parameter->kind = kind;
  parameter->required = required;
  matcher_string_dup(&parameter->help, help);
}
