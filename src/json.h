/*
 * json.h
 *	  Reading and writing JSON that strangers see or send.
 *
 * Everything inside is UTF-8, whatever the database's encoding is; convert at
 * the border with json_to_server() and json_to_utf8().  Nothing here throws
 * for what a stranger sent.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_JSON_H
#define PGSYNC_ITSM_JSON_H

#include "postgres.h"
#include "lib/stringinfo.h"

struct json_object;

#define JSON_MAX_DEPTH 64

/* A parsed or built document; its tree ends with the memory context it was made in. */
typedef struct JsonDoc
{
	struct json_object	 *root;	   /* NULL for the JSON value null */
	bool				  had_nul; /* \u0000 was in a string; it is U+FFFD now */
	MemoryContextCallback on_reset;
} JsonDoc;

/*
 * Parses len bytes.  NULL if they are no single valid JSON text of at most
 * JSON_MAX_DEPTH levels, or hold NUL bytes or broken UTF-8; *reason then says
 * so in plain ASCII words (static text).
 */
extern JsonDoc *json_doc_parse(const char *text, size_t len, const char **reason);

/* The members of an object of plain values, in their order; null is a NULL value. */
typedef struct JsonFlat
{
	int			 n;
	const char **names;
	const char **values;
} JsonFlat;

/*
 * Reads what is written plainly, without building a tree, which takes several
 * times as long.  False: it is for json_doc_parse() to say what it is.
 */
extern bool json_flat_parse(const char *text, size_t len, JsonFlat *flat);

/* An empty object, or one that takes over a reference to root. */
extern JsonDoc *json_doc_new(void);

/* Frees the tree before its context goes; harmless if done twice. */
extern void json_doc_free(JsonDoc *doc);

/*
 * Getters.  A missing member, another type, or a NULL object give NULL, the
 * default, or 0.  Results are borrowed from the tree.
 */
extern struct json_object *json_member(struct json_object *object, const char *name);
extern struct json_object *json_path(struct json_object *object, const char *dotted);
extern const char		  *json_text(struct json_object *object, const char *name);	  /* strings only */
extern const char		  *json_scalar(struct json_object *object, const char *name); /* numbers and booleans too */
extern const char		  *json_value_text(struct json_object *value);				  /* of a scalar; NULL for others */
extern bool				   json_boolean(struct json_object *object, const char *name, bool fallback); /* also "true" */
extern int64			   json_int(struct json_object *object, const char *name, int64 fallback);	  /* also "42" */
extern int64			   json_value_int(struct json_object *value, int64 fallback); /* the same of a value */
extern bool				   json_is_object(struct json_object *value);
extern bool				   json_is_array(struct json_object *value);
extern int				   json_count(struct json_object *array);
extern struct json_object *json_item(struct json_object *array, int index);

/* Building: appends UTF-8 text, escaped and quoted; NULL becomes null. */
extern void json_append_string(StringInfo buf, const char *utf8);
extern void json_append_stringn(StringInfo buf, const char *utf8, size_t len);

/* Appends "name":"value", with a comma before it unless it is the first after '{' or '['. */
extern void json_append_member(StringInfo buf, const char *name, const char *utf8);
extern void json_append_comma(StringInfo buf);

/* The tree as compact text, palloc'd, UTF-8. */
extern char *json_print(struct json_object *value);

/* The same, cut to max bytes at a character (the result may then be no JSON). */
extern char *json_excerpt(const char *utf8, size_t len, size_t max);

/*
 * UTF-8 to the server's encoding and back; palloc'd copies.  What cannot be
 * represented, or is no valid text, becomes '?', a NUL byte too; *replaced (if
 * not NULL) says whether that happened.  Work outside a transaction as well.
 * NULL gives NULL.
 */
extern char *json_to_server(const char *utf8);
extern char *json_to_server_n(const char *utf8, size_t len, bool *replaced);
extern char *json_to_utf8(const char *server);
extern char *json_to_utf8_n(const char *server, size_t len, bool *replaced);

#endif /* PGSYNC_ITSM_JSON_H */
