/* What filter.c, which reads filters, and filter_match.c, which asks them, share. */
#ifndef ADMIN_FILTER_INTERNAL_H
#define ADMIN_FILTER_INTERNAL_H

#include "admin/filter.h"

enum filter_field {
    FIELD_TO, FIELD_FROM, FIELD_DOMAIN, FIELD_CODE, FIELD_TEXT, FIELD_REMOTE, FIELD_LOGIN, FIELD_STATE,     /* text */
    FIELD_ID, FIELD_AGE, FIELD_DUE, FIELD_SIZE, FIELD_ATTEMPTS, FIELD_PRIORITY,                             /* numbers */
};

enum filter_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE };

enum node_kind { NODE_AND, NODE_OR, NODE_NOT, NODE_TERM };

struct node {
    enum node_kind    kind;
    uint16_t          left, right;           /* AND, OR; NOT has left only */
    enum filter_field field;                 /* of a term, as all below */
    enum filter_op    op;                    /* never OP_NE, which is NODE_NOT of OP_EQ; text has OP_EQ only */
    struct str        pattern;
    __int128          number;                /* nanoseconds, bytes, ids: all of int64_t and uint64_t */
};

struct filter {
    struct node nodes[FILTER_NODES_MAX];     /* a node comes after those that it joins; the last is the whole */
    uint16_t    count;
};

#endif
