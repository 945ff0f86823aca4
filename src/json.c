/*
 * json.c
 *	  JSON through json-c, and text between UTF-8 and the server's encoding.
 *
 * json-c allocates with malloc; every tree hangs on a memory context, whose
 * end frees it.  No network and no SPI here, and no trust in what is read.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <json-c/json.h>
#include <limits.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "json.h"

/* ---------------------------------------------------------------- documents */

static void
release_tree(void *arg)
{
	json_doc_free((JsonDoc *) arg);
}

/* The callback stands before the tree exists, so an error cannot lose it. */
static JsonDoc *
empty_doc(void)
{
	JsonDoc *doc = palloc0(sizeof(JsonDoc));

	doc->on_reset.func = release_tree;
	doc->on_reset.arg = doc;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &doc->on_reset);
	return doc;
}

JsonDoc *
json_doc_new(void)
{
	JsonDoc *doc = empty_doc();

	doc->root = json_object_new_object();
	if (doc->root == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return doc;
}

void
json_doc_free(JsonDoc *doc)
{
	struct json_object *root = doc->root;

	doc->root = NULL;
	if (root != NULL)
		json_object_put(root);
}

/*
 * An escaped U+0000 is valid JSON that neither a C string nor a PostgreSQL text
 * can hold.  Returns NULL if there is none, else a copy with U+FFFD instead;
 * the escape has the same length.
 */
static char *
without_nul_escapes(const char *text, size_t len)
{
	const char *end = text + len;
	const char *at = text;
	char	   *copy = NULL;

	while ((at = memchr(at, '\\', end - at)) != NULL && end - at >= 2)
	{
		if (end - at >= 6 && memcmp(at + 1, "u0000", 5) == 0)
		{
			if (copy == NULL)
			{
				copy = palloc_extended(len + 1, MCXT_ALLOC_HUGE);
				memcpy(copy, text, len);
				copy[len] = '\0';
			}
			memcpy(copy + (at - text) + 2, "fffd", 4);
		}
		at += 2; /* the backslash and what it escapes */
	}
	return copy;
}

static const char *
parse_tree(JsonDoc *doc, const char *text, size_t len)
{
	struct json_tokener	   *tokener = json_tokener_new_ex(JSON_MAX_DEPTH);
	enum json_tokener_error error;

	if (tokener == NULL)
		return "there is no memory to read it";
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	doc->root = json_tokener_parse_ex(tokener, text, (int) len);
	error = json_tokener_get_error(tokener);
	if (error == json_tokener_continue)
	{
		/* a number at the top needs an end; what is cut short stays an error */
		doc->root = json_tokener_parse_ex(tokener, "", 1);
		error = json_tokener_get_error(tokener);
	}
	json_tokener_free(tokener);

	switch (error)
	{
		case json_tokener_success:
			return NULL;
		case json_tokener_error_depth:
			return "it is nested too deeply";
		case json_tokener_continue:
		case json_tokener_error_parse_eof:
			return "it is cut short";
		default:
			return "it is not valid JSON";
	}
}

/*
 * json-c keeps a fraction as it was written, and takes NaN, Infinity, "1." and
 * the like, which would be no JSON any more when printed.  RFC 8259 section 6.
 */
static bool
is_json_number(const char *text)
{
	size_t digits;

	text += *text == '-';
	digits = strspn(text, "0123456789");
	if (digits == 0 || (digits > 1 && *text == '0'))
		return false;
	text += digits;
	if (*text == '.')
	{
		text++;
		digits = strspn(text, "0123456789");
		if (digits == 0)
			return false;
		text += digits;
	}
	if (*text == 'e' || *text == 'E')
	{
		text++;
		text += *text == '+' || *text == '-';
		digits = strspn(text, "0123456789");
		if (digits == 0)
			return false;
		text += digits;
	}
	return *text == '\0';
}

/* Recursion is bounded by JSON_MAX_DEPTH. */
static bool
numbers_are_valid(struct json_object *value)
{
	if (json_is_array(value))
	{
		for (int i = 0; i < json_count(value); i++)
		{
			if (!numbers_are_valid(json_item(value, i)))
				return false;
		}
	}
	else if (json_is_object(value))
	{
		struct json_object_iterator at = json_object_iter_begin(value);
		struct json_object_iterator end = json_object_iter_end(value);

		for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at))
		{
			if (!numbers_are_valid(json_object_iter_peek_value(&at)))
				return false;
		}
	}
	else if (value != NULL && json_object_get_type(value) == json_type_double)
		return is_json_number(json_object_get_string(value));
	return true;
}

JsonDoc *
json_doc_parse(const char *text, size_t len, const char **reason)
{
	JsonDoc *doc;
	char	*copy;

	*reason = NULL;
	if (len == 0)
		*reason = "it is empty";
	else if (len >= INT_MAX)
		*reason = "it is too large";
	else if (memchr(text, '\0', len) != NULL)
		*reason = "it has NUL bytes in it";
	else if (pg_encoding_verifymbstr(PG_UTF8, text, (int) len) != (int) len)
		*reason = "it is not valid UTF-8";
	if (*reason != NULL)
		return NULL;

	doc = empty_doc();
	copy = without_nul_escapes(text, len);
	doc->had_nul = copy != NULL;
	*reason = parse_tree(doc, copy ? copy : text, len);
	if (copy)
		pfree(copy);
	if (*reason == NULL && !numbers_are_valid(doc->root))
		*reason = "it is not valid JSON";
	if (*reason == NULL)
		return doc;
	json_doc_free(doc);
	return NULL;
}

/* ------------------------------------------------- objects of plain values */

#define MAX_FLAT 64 /* members; names are compared with each other */

/* Where in the text we are, and where in the copy that strings are taken to. */
typedef struct FlatReader
{
	const char *at; /* NUL-terminated */
	char	   *to;
} FlatReader;

static void
skip_space(FlatReader *reader)
{
	while (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t')
		reader->at++;
}

static bool
take_char(FlatReader *reader, char wanted)
{
	skip_space(reader);
	if (*reader->at != wanted)
		return false;
	reader->at++;
	return true;
}

/* What a backslash and this character stand for; 0: not here. */
static char
unescaped(char escaped)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char		 *found = escaped != '\0' ? strchr(from, escaped) : NULL;

	return found ? to[found - from] : '\0';
}

/* A string without numbered escapes and control characters; the opening quote is read. */
static const char *
take_string(FlatReader *reader)
{
	const char *start = reader->to;

	for (; *reader->at != '"'; reader->at++)
	{
		char c = *reader->at;

		if (c == '\\')
			c = unescaped(*++reader->at);
		else if ((unsigned char) c < ' ')
			return NULL;
		if (c == '\0')
			return NULL;
		*reader->to++ = c;
	}
	reader->at++;
	*reader->to++ = '\0';
	return start;
}

/* Returns false if it is none of true, false, null and a whole number as everybody prints it. */
static bool
take_word(FlatReader *reader, const char **value)
{
	size_t len = strspn(reader->at, "0123456789truefalsn-");

	if (strncmp(reader->at, "null", len) == 0 && len == 4)
		*value = NULL;
	else if ((strncmp(reader->at, "true", len) == 0 && len == 4) ||
			 (strncmp(reader->at, "false", len) == 0 && len == 5) ||
			 (strspn(reader->at, "0123456789") == len && len > 0 && len < 18 && (len == 1 || *reader->at != '0')))
	{
		*value = reader->to;
		memcpy(reader->to, reader->at, len);
		reader->to += len;
		*reader->to++ = '\0';
	}
	else
		return false;
	reader->at += len;
	return true;
}

static bool
is_new_name(const JsonFlat *flat, const char *name)
{
	for (int i = 0; i < flat->n; i++)
	{
		if (strcmp(flat->names[i], name) == 0)
			return false;
	}
	return true;
}

/* "name": value */
static bool
take_member(FlatReader *reader, JsonFlat *flat)
{
	const char *name = take_char(reader, '"') ? take_string(reader) : NULL;
	const char *value;

	if (name == NULL || flat->n == MAX_FLAT || !is_new_name(flat, name) || !take_char(reader, ':'))
		return false;
	if (take_char(reader, '"'))
	{
		value = take_string(reader);
		if (value == NULL)
			return false;
	}
	else if (!take_word(reader, &value))
		return false;
	flat->names[flat->n] = name;
	flat->values[flat->n++] = value;
	return true;
}

static bool
take_members(FlatReader *reader, JsonFlat *flat)
{
	if (!take_char(reader, '{'))
		return false;
	if (take_char(reader, '}'))
		return true;
	do
	{
		if (!take_member(reader, flat))
			return false;
	} while (take_char(reader, ','));
	return take_char(reader, '}');
}

bool
json_flat_parse(const char *text, size_t len, JsonFlat *flat)
{
	FlatReader reader = {.at = text};

	/* text[len] is NUL, and no NUL is before it */
	if (len >= MaxAllocSize || strlen(text) != len || pg_encoding_verifymbstr(PG_UTF8, text, (int) len) != (int) len)
		return false;
	/* a string and its NUL are no longer than the string with its quotes; a word has a comma or a brace behind it */
	reader.to = palloc(len + 1);
	flat->n = 0;
	flat->names = palloc(sizeof(char *) * MAX_FLAT);
	flat->values = palloc(sizeof(char *) * MAX_FLAT);
	if (!take_members(&reader, flat))
		return false;
	skip_space(&reader);
	return *reader.at == '\0';
}

/* ------------------------------------------------------------------ getters */

bool
json_is_object(struct json_object *value)
{
	return value != NULL && json_object_get_type(value) == json_type_object;
}

bool
json_is_array(struct json_object *value)
{
	return value != NULL && json_object_get_type(value) == json_type_array;
}

struct json_object *
json_member(struct json_object *object, const char *name)
{
	struct json_object *value = NULL;

	if (!json_is_object(object) || !json_object_object_get_ex(object, name, &value))
		return NULL;
	return value;
}

struct json_object *
json_path(struct json_object *object, const char *dotted)
{
	char		name[NAMEDATALEN];
	const char *dot;

	while ((dot = strchr(dotted, '.')) != NULL)
	{
		if (dot - dotted >= NAMEDATALEN)
			return NULL;
		strlcpy(name, dotted, dot - dotted + 1);
		object = json_member(object, name);
		dotted = dot + 1;
	}
	return json_member(object, dotted);
}

const char *
json_value_text(struct json_object *value)
{
	if (value == NULL || json_is_object(value) || json_is_array(value))
		return NULL;
	return json_object_get_string(value);
}

const char *
json_scalar(struct json_object *object, const char *name)
{
	return json_value_text(json_member(object, name));
}

const char *
json_text(struct json_object *object, const char *name)
{
	struct json_object *value = json_member(object, name);

	if (value == NULL || json_object_get_type(value) != json_type_string)
		return NULL;
	return json_object_get_string(value);
}

bool
json_boolean(struct json_object *object, const char *name, bool fallback)
{
	const char *text = json_scalar(object, name);

	if (text == NULL)
		return fallback;
	if (strcmp(text, "true") == 0)
		return true;
	if (strcmp(text, "false") == 0)
		return false;
	return fallback;
}

int64
json_value_int(struct json_object *value, int64 fallback)
{
	const char *text;
	char	   *end;
	long long	number;

	if (value != NULL && json_object_get_type(value) == json_type_int)
		return json_object_get_int64(value);
	text = json_value_text(value);
	if (text == NULL || text[0] == '\0')
		return fallback;
	errno = 0;
	number = strtoll(text, &end, 10);
	return *end == '\0' && errno == 0 ? (int64) number : fallback;
}

int64
json_int(struct json_object *object, const char *name, int64 fallback)
{
	return json_value_int(json_member(object, name), fallback);
}

int
json_count(struct json_object *array)
{
	return json_is_array(array) ? (int) json_object_array_length(array) : 0;
}

struct json_object *
json_item(struct json_object *array, int index)
{
	if (index < 0 || index >= json_count(array))
		return NULL;
	return json_object_array_get_idx(array, index);
}

/* ----------------------------------------------------------------- building */

static void
append_escape(StringInfo buf, unsigned char c)
{
	static const char names[] = "\b\f\n\r\t\"\\";
	static const char letters[] = "bfnrt\"\\";
	const char		 *at = strchr(names, c);

	if (at != NULL && c != '\0')
	{
		appendStringInfoChar(buf, '\\');
		appendStringInfoChar(buf, letters[at - names]);
	}
	else
		appendStringInfo(buf, "\\u%04x", c);
}

void
json_append_stringn(StringInfo buf, const char *utf8, size_t len)
{
	const char *end = utf8 + len;
	const char *run = utf8;
	const char *at;

	appendStringInfoChar(buf, '"');
	for (at = utf8; at < end; at++)
	{
		unsigned char c = (unsigned char) *at;

		if (likely(c >= 0x20 && c != '"' && c != '\\'))
			continue;
		appendBinaryStringInfo(buf, run, at - run);
		append_escape(buf, c);
		run = at + 1;
	}
	appendBinaryStringInfo(buf, run, end - run);
	appendStringInfoChar(buf, '"');
}

void
json_append_string(StringInfo buf, const char *utf8)
{
	if (utf8 == NULL)
		appendStringInfoString(buf, "null");
	else
		json_append_stringn(buf, utf8, strlen(utf8));
}

void
json_append_comma(StringInfo buf)
{
	char last = buf->len > 0 ? buf->data[buf->len - 1] : '{';

	if (last != '{' && last != '[')
		appendStringInfoChar(buf, ',');
}

void
json_append_member(StringInfo buf, const char *name, const char *utf8)
{
	json_append_comma(buf);
	json_append_string(buf, name);
	appendStringInfoChar(buf, ':');
	json_append_string(buf, utf8);
}

char *
json_print(struct json_object *value)
{
	const char *text;

	if (value == NULL)
		return pstrdup("null");
	text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return pstrdup(text);
}

/* ---------------------------------------------------------------- encodings */

/* A copy in which every byte that is no part of a character of enc is '?'. */
static char *
cleaned(const char *text, size_t len, int enc, bool *replaced)
{
	char  *copy = palloc_extended(len + 1, MCXT_ALLOC_HUGE);
	size_t at = 0;

	memcpy(copy, text, len);
	copy[len] = '\0';
	while (at < len)
	{
		at += pg_encoding_verifymbstr(enc, copy + at, (int) Min(len - at, INT_MAX));
		if (at < len)
		{
			copy[at++] = '?';
			*replaced = true;
		}
	}
	return copy;
}

char *
json_excerpt(const char *utf8, size_t len, size_t max)
{
	bool replaced;

	if (len > max)
		len = pg_encoding_mbcliplen(PG_UTF8, utf8, (int) Min(len, max + MAX_MULTIBYTE_CHAR_LEN), (int) max);
	return cleaned(utf8, len, PG_UTF8, &replaced);
}

/*
 * The conversion function, looked up once per process and direction.  The
 * look-up needs a transaction, the conversion does not.  NULL if there is none,
 * or if it cannot be looked up now.
 */
static FmgrInfo *
conversion(int from, int to)
{
	static FmgrInfo known[2];
	FmgrInfo	   *slot = &known[to == PG_UTF8 ? 1 : 0];
	bool			own_transaction = !IsTransactionOrTransactionBlock();
	MemoryContext	caller = CurrentMemoryContext;
	Oid				proc;

	if (OidIsValid(slot->fn_oid))
		return slot;
	if (own_transaction)
		StartTransactionCommand();
	else if (!IsTransactionState())
		return NULL;
	proc = FindDefaultConversionProc(from, to);
	if (OidIsValid(proc))
		fmgr_info_cxt(proc, slot, TopMemoryContext);
	if (own_transaction)
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
	}
	return OidIsValid(proc) ? slot : NULL;
}

/* Converts valid text; a character that the target lacks becomes '?'. */
static char *
converted(const char *text, size_t len, int from, int to, bool *replaced)
{
	FmgrInfo *proc = conversion(from, to);
	char	 *out = palloc_extended(len * MAX_CONVERSION_GROWTH + 1, MCXT_ALLOC_HUGE);
	size_t	  at = 0;
	size_t	  used = 0;

	out[0] = '\0';
	while (at < len)
	{
		int step = (int) Min(len - at, INT_MAX);

		if (proc != NULL)
			at += DatumGetInt32(FunctionCall6(proc, Int32GetDatum(from), Int32GetDatum(to), CStringGetDatum(text + at),
											  CStringGetDatum(out + used), Int32GetDatum(step), BoolGetDatum(true)));
		else if (!IS_HIGHBIT_SET(text[at]))
		{
			out[used] = text[at++];
			out[used + 1] = '\0';
		}
		used += strlen(out + used);
		if (at >= len || (proc == NULL && !IS_HIGHBIT_SET(text[at])))
			continue;
		at += Min((size_t) pg_encoding_mblen(from, text + at), len - at);
		out[used++] = '?';
		out[used] = '\0';
		*replaced = true;
	}
	return out;
}

static bool
is_ascii(const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(text[i]) || text[i] == '\0')
			return false;
	}
	return true;
}

/* from and to are valid server encodings, one of them UTF-8 */
static char *
translated(const char *text, size_t len, int from, int to, bool *replaced)
{
	bool  ignored;
	char *clean;

	if (replaced == NULL)
		replaced = &ignored;
	*replaced = false;
	if (from == PG_SQL_ASCII || to == PG_SQL_ASCII)
		from = to = PG_UTF8; /* the server lets anything pass; the platforms speak UTF-8 */
	if (from == to || is_ascii(text, len))
		return cleaned(text, len, from, replaced);
	clean = cleaned(text, len, from, replaced);
	text = converted(clean, len, from, to, replaced);
	pfree(clean);
	return unconstify(char *, text);
}

char *
json_to_server_n(const char *utf8, size_t len, bool *replaced)
{
	return translated(utf8, len, PG_UTF8, GetDatabaseEncoding(), replaced);
}

char *
json_to_server(const char *utf8)
{
	return utf8 ? json_to_server_n(utf8, strlen(utf8), NULL) : NULL;
}

char *
json_to_utf8_n(const char *server, size_t len, bool *replaced)
{
	return translated(server, len, GetDatabaseEncoding(), PG_UTF8, replaced);
}

char *
json_to_utf8(const char *server)
{
	return server ? json_to_utf8_n(server, strlen(server), NULL) : NULL;
}
