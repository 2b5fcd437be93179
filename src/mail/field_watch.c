/*
 * Fields of one name: see field_watch.h.
 */
#include "mail/field_watch.h"
#include <string.h>

enum { IN_NAME, BEHIND_NAME, IN_VALUE, ELSEWHERE, LINE_BEGAN };   /* LINE_BEGAN: of the value, which may go on in this line */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static void take_value(struct field_watch *w, char c)
{
    if (w->values != NULL && c != '\r' && c != '\n')
        buf_put_char(w->values, c);
    if (w->count > 1)
        return;
    if (is_space(c)) {
        w->word_over = w->value_n > 0;
    } else if (w->word_over || w->value_n == FIELD_WATCH_VALUE_MAX) {
        w->too_long = true;
    } else {
        w->value[w->value_n++] = c;
    }
}

static void take_name(struct field_watch *w, char c)
{
    bool over = w->name[w->matched] == '\0';

    if (over && c == ':') {
        w->count++;
        w->place = IN_VALUE;
        if (w->values != NULL)
            buf_put_char(w->values, '\n');
    } else if (over && (c == ' ' || c == '\t')) {               /* before the colon, as in old times (RFC 5322, 4.5.8) */
        w->place = BEHIND_NAME;
    } else if (!over && w->place == IN_NAME && char_lower(c) == w->name[w->matched]) {
        w->matched++;
    } else {
        w->place = ELSEWHERE;
    }
}

void field_watch(struct field_watch *w, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (w->place == LINE_BEGAN) {
            w->matched = 0;
            w->place = c == ' ' || c == '\t' ? IN_VALUE : IN_NAME;
        }
        if (w->place == IN_VALUE)
            take_value(w, c);
        if (w->place == IN_NAME || w->place == BEHIND_NAME)
            take_name(w, c);
        if (c == '\n' && w->place != IN_VALUE) {
            w->matched = 0;
            w->place = IN_NAME;
        } else if (c == '\n') {
            w->place = LINE_BEGAN;
        }
    }
}

bool field_watch_is(const struct field_watch *w, struct str word)
{
    return w->count == 1 && !w->too_long && str_eq_nocase((struct str){ w->value, w->value_n }, word);
}
