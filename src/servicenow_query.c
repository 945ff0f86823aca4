/*
 * servicenow_query.c
 *	  URLs and encoded queries, and how the platform compares texts.
 *
 * An encoded query has no escape for '^', splits IN lists at commas and
 * evaluates what begins with "javascript:" (servicenow-api 2.5).  No user text
 * gets into a query except through servicenow_query_condition().
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "servicenow.h"

/* What a condition holds of a value at the most, in bytes; longer ones are compared by their beginning. */
#define MAX_CONDITION_VALUE 500

/* Bytes of the shortest text that a column of the ones we look in may have been cut to. */
#define SHORTEST_CUT 40

#define SCRIPT_PREFIX "javascript:"

/* Appends utf8 percent-encoded, all but the unreserved characters of RFC 3986. */
void
servicenow_query_encode(StringInfo url, const char *utf8)
{
	static const char hex[] = "0123456789ABCDEF";

	for (const unsigned char *at = (const unsigned char *) utf8; *at != '\0'; at++)
	{
		bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');

		if (letter || (*at >= '0' && *at <= '9') || strchr("-_.~", *at) != NULL)
			appendStringInfoChar(url, (char) *at);
		else
		{
			appendStringInfoChar(url, '%');
			appendStringInfoChar(url, hex[*at >> 4]);
			appendStringInfoChar(url, hex[*at & 15]);
		}
	}
}

/* Length of what ends a segment that may stand in a query, or 0 if at begins no such thing. */
static size_t
hazard_length(const char *at)
{
	if (*at == '^')
		return 1;
	if (pg_strncasecmp(at, SCRIPT_PREFIX, strlen(SCRIPT_PREFIX)) == 0)
		return strlen(SCRIPT_PREFIX);
	return 0;
}

/* May the value stand behind "field=" as it is? */
bool
servicenow_query_plain(const char *value)
{
	if (value[0] == '\0' || strlen(value) > MAX_CONDITION_VALUE)
		return false;
	for (const char *at = value; *at != '\0'; at++)
	{
		if (hazard_length(at) > 0)
			return false;
	}
	return true;
}

/* The longest piece of the value that holds nothing hazardous. */
static size_t
longest_segment(const char *value, size_t *start)
{
	const char *at = value;
	const char *begin = value;
	size_t		best = 0;

	for (;;)
	{
		size_t hazard = *at != '\0' ? hazard_length(at) : 0;

		if (*at != '\0' && hazard == 0)
		{
			at++;
			continue;
		}
		if ((size_t) (at - begin) > best)
		{
			best = at - begin;
			*start = begin - value;
		}
		if (*at == '\0')
			return best;
		at += hazard;
		begin = at;
	}
}

/* Appends a condition on the longest harmless piece of the first bytes of a value; false if there is none. */
static bool
append_piece(StringInfo query, const char *field, const char *value, int bytes)
{
	char  *beginning = json_excerpt(value, strlen(value), bytes);
	size_t start = 0;
	size_t length = longest_segment(beginning, &start);

	if (length == 0)
		return false;
	appendStringInfo(query, "%s%s%.*s", field, start == 0 ? "STARTSWITH" : "LIKE", (int) length, beginning + start);
	return true;
}

/*
 * Appends a condition that every record with this value fulfils; others may
 * fulfil it too, so the caller compares what comes back.  Returns false, with
 * nothing appended, if no such condition can be written.
 */
bool
servicenow_query_condition(StringInfo query, const char *field, const char *value)
{
	if (value[0] == '\0')
	{
		appendStringInfo(query, "%sISEMPTY", field);
		return true;
	}
	if (servicenow_query_plain(value))
	{
		appendStringInfo(query, "%s=%s", field, value);
		return true;
	}
	return append_piece(query, field, value, MAX_CONDITION_VALUE);
}

/* The same for a value that the platform may have cut to the length of its column (servicenow-api 2.8). */
bool
servicenow_query_beginning(StringInfo query, const char *field, const char *value)
{
	if (strlen(value) <= SHORTEST_CUT)
		return servicenow_query_condition(query, field, value);
	return append_piece(query, field, value, SHORTEST_CUT);
}

static int
characters(const char *utf8, size_t bytes)
{
	int count = 0;

	for (size_t i = 0; i < bytes; i++)
	{
		if (((unsigned char) utf8[i] & 0xC0) != 0x80)
			count++;
	}
	return count;
}

/* Is got what a column of a usual length keeps of sent? */
bool
servicenow_query_was_cut(const char *got, const char *sent)
{
	static const int lengths[] = {40, 80, 100, 255};
	size_t			 bytes = strlen(got);
	int				 length = characters(got, bytes);

	if (bytes >= strlen(sent) || strncmp(got, sent, bytes) != 0)
		return false;
	for (int i = 0; i < (int) lengthof(lengths); i++)
	{
		if (length == lengths[i])
			return true;
	}
	return false;
}

/* Simple case folding of the Latin, Greek and Cyrillic letters. */
static pg_wchar
fold(pg_wchar c)
{
	if (c < 0x80)
		return c >= 'A' && c <= 'Z' ? c + 0x20 : c;
	if (c >= 0xC0 && c <= 0xDE && c != 0xD7)
		return c + 0x20;
	if ((c >= 0x100 && c <= 0x137) || (c >= 0x14A && c <= 0x177))
		return c | 1;
	if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E))
		return (c & 1) ? c + 1 : c;
	if (c >= 0x391 && c <= 0x3A9)
		return c + 0x20;
	if (c >= 0x400 && c <= 0x40F)
		return c + 0x50;
	if (c >= 0x410 && c <= 0x42F)
		return c + 0x20;
	return c;
}

static const unsigned char *
next_character(const unsigned char *at, const unsigned char *end, pg_wchar *c)
{
	int length = pg_utf_mblen(at);

	if (length > end - at)
	{
		*c = *at;
		return at + 1;
	}
	*c = fold(utf8_to_unicode(at));
	return at + length;
}

static size_t
length_without_blanks(const char *text)
{
	size_t length = strlen(text);

	while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL)
		length--;
	return length;
}

/* Are the two texts one to the platform?  Case and blanks at the end do not count (servicenow-api 2.5). */
bool
servicenow_query_same(const char *a, const char *b)
{
	const unsigned char *left = (const unsigned char *) a;
	const unsigned char *right = (const unsigned char *) b;
	const unsigned char *left_end = left + length_without_blanks(a);
	const unsigned char *right_end = right + length_without_blanks(b);

	while (left < left_end && right < right_end)
	{
		pg_wchar l;
		pg_wchar r;

		left = next_character(left, left_end, &l);
		right = next_character(right, right_end, &r);
		if (l != r)
			return false;
	}
	return left == left_end && right == right_end;
}

/*
 * The text in a form that is the same, byte by byte, for all texts that are one
 * to the platform; palloc'd.
 */
char *
servicenow_query_folded(const char *text)
{
	const unsigned char *at = (const unsigned char *) text;
	const unsigned char *end = at + length_without_blanks(text);
	unsigned char		*folded = palloc((end - at) * 2 + 1);
	unsigned char		*to = folded;

	while (at < end)
	{
		pg_wchar c;

		at = next_character(at, end, &c);
		unicode_to_utf8(c, to);
		to += pg_utf_mblen(to);
	}
	*to = '\0';
	return (char *) folded;
}

/* Does the text look like the id of a record: 32 hexadecimal digits? */
bool
servicenow_query_is_sys_id(const char *text)
{
	return text != NULL && strlen(text) == 32 && strspn(text, "0123456789abcdefABCDEF") == 32;
}

/*
 * Can the text be the id of a record in an answer?  What is not made of
 * hexadecimal digits was spoilt on the way, and must not become a reference.
 */
bool
servicenow_query_may_be_id(const char *text)
{
	size_t length = text != NULL ? strlen(text) : 0;

	return length > 0 && length <= 32 && strspn(text, "0123456789abcdefABCDEF") == length;
}

/* Path of a table, or of a record if sys_id is not NULL; palloc'd. */
char *
servicenow_query_table_url(const char *table, const char *sys_id)
{
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfoString(&url, "/api/now/table/");
	servicenow_query_encode(&url, table);
	if (sys_id != NULL)
	{
		appendStringInfoChar(&url, '/');
		servicenow_query_encode(&url, sys_id);
	}
	return url.data;
}

/*
 * Path of a list of a table's records: raw values without links, no Link
 * header, which breaks long queries (servicenow-api 2.4); palloc'd.
 */
char *
servicenow_query_list_url(const char *table, const char *query, const char *fields, int limit)
{
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfo(&url, "%s?sysparm_query=", servicenow_query_table_url(table, NULL));
	servicenow_query_encode(&url, query);
	appendStringInfoString(&url, "&sysparm_fields=");
	servicenow_query_encode(&url, fields);
	appendStringInfo(&url,
					 "&sysparm_limit=%d&sysparm_display_value=false"
					 "&sysparm_exclude_reference_link=true&sysparm_suppress_pagination_header=true",
					 limit);
	return url.data;
}
