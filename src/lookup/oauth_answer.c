/*
 * OAuth's answers, read by jansson: strict JSON in UTF-8, no name twice, and each member of the type that it must have.
 */
#include "lookup/oauth_answer.h"
#include "base/utf8.h"
#include "run/keeper_accounts.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 120                    /* of what an endpoint says of an error */

static json_t *parse(struct str json)
{
    json_t *root = json_loadb(json.p, json.n, JSON_REJECT_DUPLICATES, NULL);

    if (root == NULL || json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

/* A string without a NUL in it; .p is NULL if it is none. */
static struct str text_of(const json_t *value)
{
    return json_is_string(value) ? (struct str){ json_string_value(value), json_string_length(value) } : (struct str){ NULL, 0 };
}

bool oauth_is_token(struct str text)
{
    if (text.n == 0 || text.n > OAUTH_TOKEN_MAX)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (!char_is_alnum(text.p[i]) && (text.p[i] == '\0' || strchr("-._~+/=", text.p[i]) == NULL))
            return false;
    return true;
}

/* -- claims ------------------------------------------------------------------------------------------------------------------ */

/* NumericDate (RFC 7519, 2). False: it is there, and is none. */
static bool read_date(const json_t *root, const char *name, int64_t fallback, int64_t *out)
{
    const json_t *value = json_object_get(root, name);
    double number = json_number_value(value);

    if (value != NULL && (!json_is_number(value) || number != number || number < -1e15 || number > 1e15))
        return false;
    *out = value == NULL ? fallback : json_is_integer(value) ? json_integer_value(value) : (int64_t)number;
    return true;
}

static bool has_word(struct str words, struct str wanted)
{
    struct str word;

    while (words.n > 0) {
        str_cut(words, ' ', &word, &words);
        if (str_eq(word, wanted))
            return true;
    }
    return false;
}

/* Whether a string (of words, or one) or a list of strings has it. RFC 7662 has the scope as a string and the audience as either; some
 * write both as lists. */
static bool names(const json_t *value, struct str wanted, bool words)
{
    struct str text = text_of(value);
    size_t i;
    json_t *item;

    if (text.p != NULL)
        return words ? has_word(text, wanted) : str_eq(text, wanted);
    json_array_foreach(value, i, item)
        if (str_eq(text_of(item), wanted))
            return true;
    return false;
}

static bool has_scope(const json_t *root, struct str wanted)
{
    struct str word;

    while (wanted.n > 0) {
        str_cut(wanted, ' ', &word, &wanted);
        if (word.n > 0 && !names(json_object_get(root, "scope"), word, true))
            return false;
    }
    return true;
}

static bool read_login(const json_t *root, const char *claim, char out[KEEPER_LOGIN_MAX + 1])
{
    struct str text = text_of(json_object_get(root, claim));

    if (text.n == 0 || text.n > KEEPER_LOGIN_MAX || !accounts_login_valid(text) || !utf8_valid(text))
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

static enum oauth_verdict judge(const json_t *root, const struct oauth_wanted *w, int64_t now_s, struct oauth_claims *out, const char **why)
{
    const json_t *active = json_object_get(root, "active");
    int64_t begins_s;

    *why = "the answer is not as in RFC 7662";
    if (!json_is_boolean(active) || !read_date(root, "exp", INT64_MAX, &out->expires_s) || !read_date(root, "nbf", INT64_MIN, &begins_s))
        return OAUTH_NO_ANSWER;
    *why = "the token is not active";
    if (!json_is_true(active))
        return OAUTH_NOT_GOOD;
    *why = "the token has expired";
    if (out->expires_s <= now_s)
        return OAUTH_NOT_GOOD;
    *why = "the token is not good yet";
    if (begins_s > now_s + OAUTH_SKEW_S)
        return OAUTH_NOT_GOOD;
    *why = "the token is for another audience";
    if (w->audience[0] != '\0' && !names(json_object_get(root, "aud"), str_of(w->audience), false))
        return OAUTH_NOT_GOOD;
    *why = "the token has not the scope";
    if (!has_scope(root, str_of(w->scope)))
        return OAUTH_SCOPE_LACKS;
    *why = "the token names no login";
    return read_login(root, w->login_claim, out->login) ? OAUTH_GOOD : OAUTH_NOT_GOOD;
}

enum oauth_verdict oauth_read_introspection(struct str json, const struct oauth_wanted *wanted, int64_t now_s, struct oauth_claims *out,
                                            const char **why)
{
    struct oauth_claims claims;
    json_t *root = parse(json);

    if (root == NULL) {
        *why = "the answer is no JSON object";
        return OAUTH_NO_ANSWER;
    }
    enum oauth_verdict v = judge(root, wanted, now_s, &claims, why);
    if (v == OAUTH_GOOD)
        *out = claims;
    json_decref(root);
    return v;
}

const char *oauth_why(struct str words)
{
    static const char *const all[] = {
        "the token is not active",
        "the token has expired",
        "the token is not good yet",
        "the token is for another audience",
        "the token has not the scope",
        "the token names no login",
        "the token is another login's",
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (str_eq(words, str_of(all[i])))
            return all[i];
    return "the token is not good";
}

/* -- grants ------------------------------------------------------------------------------------------------------------------ */

/* False: it is there, and is no token. */
static bool read_token(const json_t *value, char out[OAUTH_TOKEN_MAX + 1])
{
    struct str text = text_of(value);

    out[0] = '\0';
    if (value == NULL || json_is_null(value))
        return true;
    if (!oauth_is_token(text))
        return false;
    /* analyze clang-analyzer-core.NonNullParamChecker: a token is not empty */
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

static enum oauth_granted not_now(char error[256], const char *what)
{
    snprintf(error, 256, "token endpoint: %s", what);
    return OAUTH_NOT_NOW;
}

static enum oauth_granted read_success(const json_t *root, struct oauth_grant *out, char error[256])
{
    struct str type = text_of(json_object_get(root, "token_type"));

    /* expires_in is a number (RFC 6749, 5.1); some write it in quotes. */
    const json_t *lifetime = json_object_get(root, "expires_in");
    double number = json_is_string(lifetime) ? 0 : json_number_value(lifetime);
    uint64_t quoted = 0;
    if (json_is_string(lifetime))
        (void)str_to_u64(text_of(lifetime), INT32_MAX, &quoted);     /* else: not said */
    out->lifetime_s = number > INT32_MAX ? INT32_MAX : number > 0 ? (int64_t)number : (int64_t)quoted;
    if (!read_token(json_object_get(root, "access_token"), out->access) || out->access[0] == '\0')
        return not_now(error, "no access_token that can be said");
    if (!str_eq_nocase(type, STR("bearer")))
        return not_now(error, "the token is no bearer's");
    if (!read_token(json_object_get(root, "refresh_token"), out->refresh))
        return not_now(error, "no refresh_token that can be said");
    return OAUTH_GRANTED;
}

/* {"error":"invalid_grant","error_description":"..."} (RFC 6749, 5.2) */
static enum oauth_granted read_failure(const json_t *root, unsigned status, char error[256])
{
    struct str code = text_of(json_object_get(root, "error")), words = text_of(json_object_get(root, "error_description"));

    snprintf(error, 256, "token endpoint: %u %.*s%s%.*s", status, (int)str_head(code, WORDS_MAX / 2).n, code.p == NULL ? "" : code.p,
             words.n > 0 ? ": " : "", (int)str_head(words, WORDS_MAX).n, words.p == NULL ? "" : words.p);
    for (char *p = error; *p != '\0'; p++)       /* it goes into DSNs too */
        *p = *p >= ' ' && *p <= '~' ? *p : '?';
    return str_eq(code, STR("invalid_grant")) ? OAUTH_DENIED : OAUTH_NOT_NOW;
}

enum oauth_granted oauth_read_grant(unsigned status, struct str json, struct oauth_grant *out, char error[256])
{
    json_t *root = parse(json);

    if (root == NULL) {
        snprintf(error, 256, "token endpoint: %u, and no JSON object", status);
        return OAUTH_NOT_NOW;
    }
    enum oauth_granted g = status == 200 ? read_success(root, out, error) : read_failure(root, status, error);
    json_decref(root);
    return g;
}
