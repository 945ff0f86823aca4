/*
 * halo_list.c
 *	  Addresses of lists, and whether a record is there that an earlier attempt
 *	  may have made.
 *
 * A filter that is not known is ignored in silence, and nobody knows how exact a
 * known one is (haloitsm-api 0.7, 2.6): everything is compared here, and read page
 * by page to the end.  What is inactive belongs to it.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "halo.h"

/* Percent-encodes everything but RFC 3986 unreserved characters. */
void
halo_append_encoded(StringInfo url, const char *utf8)
{
	static const char hex[] = "0123456789ABCDEF";

	for (const unsigned char *at = (const unsigned char *) utf8; *at != '\0'; at++)
	{
		if ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
			strchr("-._~", *at) != NULL)
			appendStringInfoChar(url, (char) *at);
		else
		{
			appendStringInfoChar(url, '%');
			appendStringInfoChar(url, hex[*at >> 4]);
			appendStringInfoChar(url, hex[*at & 15]);
		}
	}
}

/* Path of one page of a list (haloitsm-api 2.1): all of its type, active or not, in the order of their ids. */
char *
halo_list_path(const AdapterConnection *conn, const HaloResource *resource, int page, const char *search)
{
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfoString(&url, resource->path);
	if (!resource->pages)
		return url.data;
	appendStringInfo(&url, "?pageinate=true&page_size=%d&page_no=%d&order=id&includeactive=true&includeinactive=true",
					 HALO_PAGE, page);
	if (resource->type != NULL)
		appendStringInfo(&url, "&assettype_id=" INT64_FORMAT "&includeassetfields=true",
						 halo_known_id(conn, resource->type));
	if (search != NULL)
	{
		appendStringInfoString(&url, resource->type != NULL ? "&inventory_number=" : "&search=");
		halo_append_encoded(&url, search);
	}
	return url.data;
}

void
halo_request_get(AdapterRequest *request, char *path)
{
	request->method = "GET";
	request->api = "api";
	request->path = path;
	request->body = NULL;
	request->body_len = 0;
	request->content_type = NULL;
	request->writes = false;
	request->timeout_ms = HALO_TIMEOUT;
}

void
halo_request_post(AdapterRequest *request, const char *path, char *body)
{
	halo_request_get(request, pstrdup(path));
	request->method = "POST";
	request->body = body;
	request->body_len = strlen(body);
	request->content_type = "application/json";
	request->writes = true;
}

/* Small, and used by others right after signing in (haloitsm-api 7). */
void
halo_request_nothing(AdapterRequest *request)
{
	halo_request_get(request, pstrdup("/Lookup?lookupid=11"));
}

/*
 * A bare list is whole.  Rows are counted by the platform: what was shown has to be
 * as many, or nothing can be said of what was not (haloitsm-api 2.1).
 */
HaloPageState
halo_page_state(int64 seen, int rows, int64 total)
{
	if (total < 0 || seen + rows == total)
		return PAGE_LAST;
	if (rows == 0 || seen + rows > total)
		return PAGE_LAST_INCOMPLETE;
	return PAGE_MORE;
}

/* ------------------------------------------------------- is it there already */

/* How far a search has come. */
typedef struct Recheck
{
	HaloPayload			payload;
	const char		   *key; /* what it is known by; NULL: nothing */
	int					page;
	int64				seen;
	int					matches;
	struct json_object *oldest; /* with the lowest id; its document lasts as long as the transfer */
	int64				oldest_id;
} Recheck;

/* Field that a record of this kind is known by (design 13). */
static const char *
key_field(const HaloResource *resource)
{
	return resource->type != NULL ? "inventory_number" : resource->name;
}

void
halo_recheck_build(const AdapterConnection *conn, const AdapterItem *item, const HaloPayload *payload,
				   AdapterRequest *request)
{
	Recheck *recheck = palloc0(sizeof(Recheck));

	recheck->payload = *payload;
	recheck->key = halo_payload_value(payload, key_field(payload->resource));
	if (recheck->key != NULL && recheck->key[0] == '\0')
		recheck->key = NULL;
	recheck->page = 1;
	request->state = recheck;
	if (recheck->key == NULL)
		halo_request_nothing(request);
	else
		halo_request_get(request, halo_list_path(conn, payload->resource, 1, recheck->key));
}

/* A tag and a reference are compared as they are, names as the platform does; a contract is its vendor's. */
static bool
is_the_one(const AdapterConnection *conn, const Recheck *recheck, struct json_object *row)
{
	const HaloResource *resource = recheck->payload.resource;
	const char		   *got = halo_value(conn, resource, row, key_field(resource));
	const char		   *vendor;

	if (resource->type != NULL)
		return strcmp(got, recheck->key) == 0 &&
			   json_int(row, "assettype_id", 0) == halo_known_id(conn, resource->type);
	if (strcmp(resource->prefix, "contract") != 0)
		return halo_same_name(got, recheck->key);
	vendor = halo_payload_value(&recheck->payload, "supplier_id");
	return strcmp(got, recheck->key) == 0 &&
		   halo_number(vendor) == halo_number(halo_value(conn, resource, row, "supplier_id"));
}

/* The page's rows that are the one. */
static void
take_page(const AdapterConnection *conn, Recheck *recheck, struct json_object *rows)
{
	for (int i = 0; i < json_count(rows); i++)
	{
		struct json_object *row = json_item(rows, i);
		int64				id = json_int(row, "id", 0);

		if (id <= 0 || !is_the_one(conn, recheck, row))
			continue;
		recheck->matches++;
		if (recheck->oldest == NULL || id < recheck->oldest_id)
		{
			recheck->oldest = row;
			recheck->oldest_id = id;
		}
	}
	recheck->seen += json_count(rows);
}

bool
halo_recheck_follow(const AdapterConnection *conn, const AdapterItem *item, AdapterRequest *request,
					const AdapterResponse *response)
{
	Recheck			   *recheck = request->state;
	HaloAnswer			answer;
	struct json_object *rows;
	int64				total;

	if (recheck->key == NULL)
		return false;
	halo_answer_open(response, "question", &answer);
	rows = answer.error_class == NULL ? halo_answer_rows(recheck->payload.resource, answer.root, &total) : NULL;
	if (rows == NULL || halo_page_state(recheck->seen, json_count(rows), total) != PAGE_MORE)
		return false;
	take_page(conn, recheck, rows);
	recheck->page++;
	halo_request_get(request, halo_list_path(conn, recheck->payload.resource, recheck->page, recheck->key));
	return true;
}

static void
found(const AdapterConnection *conn, const AdapterItem *item, const Recheck *recheck, AdapterOutcome *outcome)
{
	const HaloResource *resource = recheck->payload.resource;

	outcome->kind = OUTCOME_DONE;
	outcome->operation = "create";
	outcome->external_id = halo_id(resource, recheck->oldest_id);
	outcome->external_table = resource->class_name;
	outcome->external_number = json_to_server(json_scalar(recheck->oldest, "inventory_number"));
	outcome->message = recheck->matches == 1
						   ? "found: the first attempt had arrived"
						   : psprintf("found %d times; the oldest is taken for the one we made", recheck->matches);
	outcome->excerpt = adapter_excerpt(recheck->oldest);
}

ResponseVerdict
halo_recheck_read(const AdapterConnection *conn, const AdapterItem *item, const AdapterRequest *request,
				  const AdapterResponse *response, AdapterOutcome *outcome, AdapterReport *report)
{
	Recheck			   *recheck = request->state;
	HaloAnswer			answer;
	struct json_object *rows;
	HaloPageState		state;
	int64				total = 0;

	if (recheck->key == NULL)
	{
		halo_answer_rule(outcome, "item", "NO_KEY", NULL);
		return RESPONSE_READABLE;
	}
	halo_answer_open(response, "question", &answer);
	rows = answer.error_class == NULL ? halo_answer_rows(recheck->payload.resource, answer.root, &total) : NULL;
	if (answer.error_class == NULL && rows == NULL)
		halo_answer_unusable(&answer, "the answer has no list of records");
	report->error_class = answer.error_class;
	report->message = answer.message;
	if (answer.verdict != RESPONSE_READABLE)
		return answer.verdict;
	state = halo_page_state(recheck->seen, json_count(rows), total);
	take_page(conn, recheck, rows);
	if (recheck->oldest != NULL)
		found(conn, item, recheck, outcome);
	else if (state == PAGE_LAST_INCOMPLETE)
		halo_answer_rule(outcome, "item", "INCOMPLETE", NULL);
	else
		outcome->kind = OUTCOME_RECHECKED;
	return RESPONSE_READABLE;
}
