/* What a matcher in C needs beside the bindings: texts, and the values of its configuration. */
#ifndef MONMON_H
#define MONMON_H

#include "matcher.h"

/* A copy of the text on the heap, which the caller frees. */
char *monmon_copy(const uint8_t *text, size_t length);

/* The text of this name in a configuration, unescaped and ended by NUL; the caller frees it. NULL if it is not given. */
char *monmon_config_text(const matcher_string_t *config, const char *name);

/* The number of this name; false if it is not given. */
bool monmon_config_number(const matcher_string_t *config, const char *name, double *value);

/* The first place of a text within bytes, or NULL. */
const uint8_t *monmon_find(const uint8_t *bytes, size_t length, const char *text);

/* Fills a parameter of `describe`. All texts are copied. */
void monmon_parameter(monmon_matcher_types_parameter_t *parameter, const char *name,
                      monmon_matcher_types_kind_t kind, bool required, const char *help);

#endif
