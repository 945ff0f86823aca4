/*
 * servicenow_batch.c
 *	  The Batch API: many calls in one request (servicenow-api 6).
 *
 * Sub-requests are numbered in the order they were added; the numbers are
 * their ids.  What they ask for is the caller's business.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "common/base64.h"

#include "servicenow.h"

/* No rule is longer than an hour; anything above that is nonsense. */
#define MAX_RETRY_AFTER 7200

/* Starts an empty batch in the current memory context. */
void
servicenow_batch_begin(ServicenowBatch *batch)
{
	batch->subs = 0;
	initStringInfo(&batch->body);
	appendStringInfoString(&batch->body, "{\"batch_request_id\":\"1\",\"rest_requests\":[");
}

static void
append_base64(StringInfo buf, const char *text)
{
	int length = (int) strlen(text);
	int room = pg_b64_enc_len(length) + 1;

	enlargeStringInfo(buf, room);
	length = pg_b64_encode(text, length, buf->data + buf->len, room);
	if (length < 0)
		elog(ERROR, "could not encode a sub-request");
	buf->len += length;
	buf->data[buf->len] = '\0';
}

/*
 * Adds a sub-request; body is UTF-8 JSON or NULL.  Each needs headers of its
 * own.  Those of the answer are wanted back: only X-Total-Count tells that rows
 * were hidden, and only X-RateLimit-* what a rule counts.
 */
void
servicenow_batch_add(ServicenowBatch *batch, const char *method, const char *url, const char *body)
{
	StringInfo buf = &batch->body;
	bool	   get = strcmp(method, "GET") == 0;

	json_append_comma(buf);
	appendStringInfo(buf, "{\"id\":\"%d\"", batch->subs);
	json_append_member(buf, "method", method);
	json_append_member(buf, "url", url);
	appendStringInfoString(buf, ",\"headers\":[{\"name\":\"Accept\",\"value\":\"application/json\"}");
	if (!get)
		appendStringInfoString(buf, ",{\"name\":\"Content-Type\",\"value\":\"application/json\"}");
	appendStringInfoString(buf, "],\"exclude_response_headers\":false");
	if (body != NULL)
	{
		appendStringInfoString(buf, ",\"body\":\"");
		append_base64(buf, body);
		appendStringInfoChar(buf, '"');
	}
	appendStringInfoChar(buf, '}');
	batch->subs++;
}

/* Closes the batch and fills the request, but for nused and writes. */
void
servicenow_batch_end(ServicenowBatch *batch, AdapterRequest *request)
{
	appendStringInfoString(&batch->body, "]}");
	request->method = "POST";
	request->api = "batch";
	request->path = pstrdup("/api/now/v1/batch");
	request->content_type = "application/json";
	request->body = batch->body.data;
	request->body_len = batch->body.len;
	request->subrequests = batch->subs;
	request->timeout_ms = SERVICENOW_TABLE_TIMEOUT;
}

/* ---------------------------------------------------------------- reading */

/* The number of a sub-request, or -1; ids come back as strings, whatever they were. */
static int
sub_number(struct json_object *id, int subs)
{
	const char *text = json_value_text(id);
	char	   *end;
	long		number;

	if (text == NULL || text[0] == '\0')
		return -1;
	number = strtol(text, &end, 10);
	return *end == '\0' && number >= 0 && number < subs ? (int) number : -1;
}

static void
read_body(ServicenowSub *sub, const char *encoded)
{
	char *packed;
	char *body;
	int	  length = 0;
	int	  room;

	if (encoded == NULL)
		return;
	packed = palloc(strlen(encoded) + 1);
	for (const char *at = encoded; *at != '\0'; at++)
	{
		if (strchr(" \t\r\n", *at) == NULL)
			packed[length++] = *at;
	}
	room = pg_b64_dec_len(length) + 1;
	body = palloc(room);
	length = pg_b64_decode(packed, length, body, room);
	pfree(packed);
	if (length < 0)
		return;
	body[length] = '\0';
	sub->reply.body = body;
	sub->reply.body_len = length;
}

static void
read_header(ServicenowSub *sub, const char *name, struct json_object *header)
{
	if (pg_strcasecmp(name, "Content-Type") == 0)
		sub->reply.content_type = json_scalar(header, "value");
	else if (pg_strcasecmp(name, "X-Total-Count") == 0)
		sub->total = json_int(header, "value", -1);
	else if (pg_strcasecmp(name, "Retry-After") == 0)
		sub->reply.retry_after_s = (long) Min(json_int(header, "value", -1), MAX_RETRY_AFTER);
	else if (pg_strcasecmp(name, "X-RateLimit-Rule") == 0)
		sub->rule = json_scalar(header, "value");
	else if (pg_strcasecmp(name, "X-RateLimit-Limit") == 0)
		sub->limit = json_int(header, "value", -1);
	else if (pg_strcasecmp(name, "X-RateLimit-Reset") == 0)
		sub->reset = json_int(header, "value", -1);
	if (pg_strncasecmp(name, "X-RateLimit-", strlen("X-RateLimit-")) == 0)
		sub->reply.rate_headers = true;
}

static void
read_headers(ServicenowSub *sub, struct json_object *headers)
{
	for (int i = 0; i < json_count(headers); i++)
	{
		struct json_object *header = json_item(headers, i);
		const char		   *name = json_scalar(header, "name");

		if (name != NULL)
			read_header(sub, name, header);
	}
}

/* Without headers a throttled sub-request tells the rule from the queue by its envelope (servicenow-api 8). */
static bool
speaks_of_a_rule(const ServicenowSub *sub)
{
	return sub->reply.status == 429 && sub->reply.body_len > 0 && strstr(sub->reply.body, "Rate limit") != NULL;
}

static void
read_sub(ServicenowSub *sub, struct json_object *raw)
{
	sub->reply.status = (int) json_int(raw, "status_code", 0);
	if (sub->reply.status < 100 || sub->reply.status > 999)
		return;
	sub->state = SUB_SERVICED;
	sub->raw = raw;
	read_body(sub, json_text(raw, "body"));
	read_headers(sub, json_member(raw, "headers"));
	sub->reply.rate_headers = sub->reply.rate_headers || speaks_of_a_rule(sub);
}

/* The report's entry of a rule; a new one if there is room, else NULL. */
static AdapterRate *
find_rate(AdapterReport *report, const char *rule)
{
	AdapterRate *rate;

	for (int i = 0; i < report->nrates; i++)
	{
		if (strcmp(report->rates[i].rule, rule) == 0)
			return &report->rates[i];
	}
	if (report->nrates == ADAPTER_MAX_RATES)
		return NULL;
	rate = &report->rates[report->nrates++];
	memset(rate, 0, sizeof(*rate));
	rate->rule = rule;
	rate->limit = rate->reset = -1;
	return rate;
}

/* Counts a sub-request for the rule that its answer names. */
static void
count_rate(const ServicenowSub *sub, AdapterReport *report)
{
	AdapterRate *rate = sub->rule != NULL ? find_rate(report, json_to_server(sub->rule)) : NULL;

	if (rate == NULL)
		return;
	rate->counted++;
	rate->limit = sub->limit >= 0 ? sub->limit : rate->limit;
	rate->reset = Max(rate->reset, sub->reset);
	rate->exhausted = rate->exhausted || sub->reply.status == 429;
}

static void
read_serviced(ServicenowSub *subs, int nsubs, struct json_object *done, int *serviced, AdapterReport *report)
{
	for (int i = 0; i < json_count(done); i++)
	{
		int number = sub_number(json_member(json_item(done, i), "id"), nsubs);

		if (number < 0 || subs[number].state == SUB_SERVICED)
			continue;
		read_sub(&subs[number], json_item(done, i));
		if (subs[number].state != SUB_SERVICED)
			continue;
		(*serviced)++;
		if (report != NULL)
			count_rate(&subs[number], report);
	}
}

/*
 * What became of each of nsubs sub-requests, palloc'd; texts are borrowed from
 * root.  *serviced is how many were executed.  The rules that counted them go
 * into the report, unless it is NULL.
 */
ServicenowSub *
servicenow_batch_open(struct json_object *root, int nsubs, int *serviced, AdapterReport *report)
{
	ServicenowSub	   *subs = palloc0(sizeof(ServicenowSub) * Max(nsubs, 1));
	struct json_object *left = json_member(root, "unserviced_requests");

	*serviced = 0;
	for (int i = 0; i < nsubs; i++)
	{
		subs[i].total = subs[i].limit = subs[i].reset = -1;
		subs[i].reply.body = "";
		subs[i].reply.retry_after_s = -1;
	}
	read_serviced(subs, nsubs, json_member(root, "serviced_requests"), serviced, report);
	for (int i = 0; i < json_count(left); i++)
	{
		int number = sub_number(json_item(left, i), nsubs);

		if (number >= 0 && subs[number].state == SUB_MISSING)
			subs[number].state = SUB_UNSERVICED;
	}
	return subs;
}
