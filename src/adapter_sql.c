/*
 * adapter_sql.c
 *	  The adapters' pure functions as SQL functions, for tests and for looking
 *	  at what would be sent.
 *
 * Sends nothing and reads no table: settings, items and answers are arguments.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "adapter.h"
#include "json.h"

PG_FUNCTION_INFO_V1(adapter_build);
PG_FUNCTION_INFO_V1(adapter_measure);
PG_FUNCTION_INFO_V1(adapter_measure_lookup);
PG_FUNCTION_INFO_V1(adapter_read);
PG_FUNCTION_INFO_V1(adapter_converse);
PG_FUNCTION_INFO_V1(adapter_converse_lookup);
PG_FUNCTION_INFO_V1(adapter_build_lookup);
PG_FUNCTION_INFO_V1(adapter_read_lookup);
PG_FUNCTION_INFO_V1(adapter_limits);
PG_FUNCTION_INFO_V1(adapter_lane);
PG_FUNCTION_INFO_V1(adapter_rates);
PG_FUNCTION_INFO_V1(adapter_outcomes);

/* ---------------------------------------------------------------- arguments */

static struct json_object *
json_argument(FunctionCallInfo fcinfo, int number, const char *what)
{
	const char *reason = NULL;
	char	   *utf8;
	JsonDoc	   *doc;

	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
	utf8 = json_to_utf8(text_to_cstring(PG_GETARG_TEXT_PP(number)));
	doc = json_doc_parse(utf8, strlen(utf8), &reason);
	if (doc == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s cannot be read: %s", what, reason)));
	return doc->root;
}

static const Adapter *
open_connection(FunctionCallInfo fcinfo, AdapterConnection *conn)
{
	char		  *platform = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	const Adapter *adapter = adapter_for(platform);

	if (adapter == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("platform \"%s\" has no adapter", platform)));
	conn->settings = json_argument(fcinfo, 1, "settings");
	conn->source_name = adapter_setting(conn, "source_name");
	conn->write_api = adapter_setting(conn, "write_api");
	if (conn->source_name == NULL)
		conn->source_name = "GetInSync";
	if (conn->write_api == NULL)
		conn->write_api = "ire";
	return adapter;
}

/* An object given where a text belongs is its JSON text, as a payload is. */
static const char *
text_of(struct json_object *object, const char *name)
{
	struct json_object *value = json_member(object, name);

	return json_is_object(value) || json_is_array(value) ? json_print(value) : json_value_text(value);
}

static void
fill_item(AdapterItem *item, struct json_object *from)
{
	memset(item, 0, sizeof(*item));
	item->item_id = json_int(from, "item_id", 0);
	item->entity_type = text_of(from, "entity_type");
	item->action = text_of(from, "action");
	item->native_key = text_of(from, "native_key");
	item->external_id = text_of(from, "external_id");
	item->external_table = text_of(from, "external_table");
	item->payload = text_of(from, "payload");
	item->parent_external_id = text_of(from, "parent_external_id");
	item->parent_table = text_of(from, "parent_table");
	item->child_external_id = text_of(from, "child_external_id");
	item->child_table = text_of(from, "child_table");
	item->rel_type = text_of(from, "rel_type");
	item->rel_type_id = text_of(from, "rel_type_id");
	item->bundle = json_int(from, "bundle", 0);
	item->parent_native_key = text_of(from, "parent_native_key");
	item->child_native_key = text_of(from, "child_native_key");
	item->attempts = (int) json_int(from, "attempts", 1);
	item->in_doubt = json_boolean(from, "in_doubt", false);
	if (item->entity_type == NULL || item->action == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an item needs entity_type and action")));
}

static AdapterItem *
items_argument(FunctionCallInfo fcinfo, int *n)
{
	struct json_object *list = json_argument(fcinfo, 2, "items");
	AdapterItem		   *items;

	*n = json_count(list);
	if (*n == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("items must be an array that is not empty")));
	items = palloc(sizeof(AdapterItem) * *n);
	for (int i = 0; i < *n; i++)
		fill_item(&items[i], json_item(list, i));
	return items;
}

static const char **
texts_of(struct json_object *object, const char *name, int *n)
{
	struct json_object *list = json_member(object, name);
	const char		  **texts;

	*n = json_count(list);
	texts = palloc(sizeof(char *) * (*n + 1));
	for (int i = 0; i < *n; i++)
	{
		texts[i] = json_value_text(json_item(list, i));
		if (texts[i] == NULL)
			texts[i] = "";
	}
	return texts;
}

/* What a look-up has of documents, one for each of its n keys; NULL: none. */
static const char **
documents_of(struct json_object *from, int n)
{
	struct json_object *list = json_member(from, "documents");
	const char		  **texts;

	if (list == NULL)
		return NULL;
	texts = palloc0(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		if (json_is_object(json_item(list, i)))
			texts[i] = json_print(json_item(list, i));
	return texts;
}

static AdapterLookup *
lookups_argument(FunctionCallInfo fcinfo, int *n)
{
	struct json_object *list = json_argument(fcinfo, 2, "lookups");
	AdapterLookup	   *lookups;

	*n = json_count(list);
	if (*n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("lookups must be an array that is not empty")));
	lookups = palloc0(sizeof(AdapterLookup) * *n);
	for (int i = 0; i < *n; i++)
	{
		struct json_object *from = json_item(list, i);

		lookups[i].lookup_id = json_int(from, "lookup_id", i + 1);
		lookups[i].kind = json_text(from, "kind") ? json_text(from, "kind") : "";
		lookups[i].target = json_text(from, "target") ? json_text(from, "target") : "";
		lookups[i].keys = texts_of(from, "keys", &lookups[i].nkeys);
		lookups[i].fields = texts_of(from, "fields", &lookups[i].nfields);
		lookups[i].documents = documents_of(from, lookups[i].nkeys);
	}
	return lookups;
}

/*
 * Arguments 3 to 5: status, content type, body.  Status 0 is a transfer that
 * broke; the content type is the class of the failure then.  Argument 6, if
 * there is one and not null, is what a rate-limit rule told.
 */
static void
response_argument(FunctionCallInfo fcinfo, AdapterResponse *response)
{
	memset(response, 0, sizeof(*response));
	response->status = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3);
	response->content_type = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
	response->body = "";
	response->retry_after_s = -1;
	if (!PG_ARGISNULL(5))
	{
		bytea *body = PG_GETARG_BYTEA_PP(5);
		char  *copy = palloc(VARSIZE_ANY_EXHDR(body) + 1);

		memcpy(copy, VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body));
		copy[VARSIZE_ANY_EXHDR(body)] = '\0';
		response->body = copy;
		response->body_len = VARSIZE_ANY_EXHDR(body);
	}
	if (PG_NARGS() > 6 && !PG_ARGISNULL(6))
	{
		response->retry_after_s = PG_GETARG_INT32(6);
		response->rate_headers = true;
	}
	if (response->status == 0)
	{
		response->transport_class = response->content_type != NULL ? response->content_type : "BROKEN";
		response->transport_message = "the connection was closed";
	}
}

/* ------------------------------------------------------------------ results */

static void
put_text(Datum *values, bool *nulls, int column, const char *server)
{
	nulls[column] = server == NULL;
	if (server != NULL)
		values[column] = CStringGetTextDatum(server);
}

/* The same for JSON, which must be such. */
static void
put_json(Datum *values, bool *nulls, int column, const char *server)
{
	put_text(values, nulls, column, server);
	if (server != NULL)
		(void) DirectFunctionCall1(json_in, CStringGetDatum(server));
}

static void
put_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static const char *
verdict_word(ResponseVerdict verdict)
{
	static const char *const words[] = {"readable", "retry", "throttled", "split", "reauthenticate", "pause", "dead"};

	return words[verdict];
}

static const char *
outcome_word(OutcomeKind kind)
{
	static const char *const words[] = {"done", "unchanged", "retry", "dead", "rechecked", "release"};

	return words[kind];
}

static void
put_request(FunctionCallInfo fcinfo, const AdapterRequest *request)
{
	Datum values[7];
	bool  nulls[7] = {false};

	put_text(values, nulls, 0, request->method);
	put_text(values, nulls, 1, json_to_server(request->path));
	put_json(values, nulls, 2, json_to_server(request->body));
	values[3] = Int32GetDatum(request->nused);
	values[4] = BoolGetDatum(request->writes);
	values[5] = Int32GetDatum(request->subrequests);
	put_text(values, nulls, 6, request->api);
	put_row(fcinfo, values, nulls);
}

static void
put_outcome(FunctionCallInfo fcinfo, const AdapterItem *item, const AdapterOutcome *outcome)
{
	Datum values[12];
	bool  nulls[12] = {false};

	values[0] = Int64GetDatum(item->item_id);
	put_text(values, nulls, 1, verdict_word(RESPONSE_READABLE));
	put_text(values, nulls, 2, outcome_word(outcome->kind));
	put_text(values, nulls, 3, outcome->operation);
	put_text(values, nulls, 4, outcome->external_id);
	put_text(values, nulls, 5, outcome->error_class);
	put_text(values, nulls, 6, outcome->message);
	put_json(values, nulls, 7, outcome->not_taken);
	put_text(values, nulls, 8, outcome->external_table);
	put_text(values, nulls, 9, outcome->external_number);
	put_json(values, nulls, 10, outcome->excerpt);
	values[11] = Int32GetDatum(outcome->retry_after_s);
	nulls[11] = outcome->retry_after_s == 0;
	put_row(fcinfo, values, nulls);
}

/* The whole answer was no use: one row without an item. */
static void
put_verdict(FunctionCallInfo fcinfo, int ncolumns, ResponseVerdict verdict, int class_column, const char *error_class,
			const char *message)
{
	Datum *values = palloc0(sizeof(Datum) * ncolumns);
	bool  *nulls = palloc(sizeof(bool) * ncolumns);

	memset(nulls, true, ncolumns);
	put_text(values, nulls, 1, verdict_word(verdict));
	put_text(values, nulls, class_column, error_class);
	put_text(values, nulls, class_column + 1, message);
	put_row(fcinfo, values, nulls);
}

static void
put_lookup(FunctionCallInfo fcinfo, const AdapterLookup *lookup, const AdapterLookupResult *result, int number,
		   const AdapterLookupRow *row)
{
	Datum values[10];
	bool  nulls[10] = {false};

	values[0] = Int64GetDatum(lookup->lookup_id);
	put_text(values, nulls, 1, verdict_word(RESPONSE_READABLE));
	put_text(values, nulls, 2, outcome_word(result->kinds[number]));
	put_text(values, nulls, 3, result->error_classes[number]);
	put_text(values, nulls, 4, result->messages[number]);
	put_text(values, nulls, 5, row ? row->key : NULL);
	put_text(values, nulls, 6, row ? row->external_id : NULL);
	put_text(values, nulls, 7, row ? row->external_table : NULL);
	put_text(values, nulls, 8, row ? row->label : NULL);
	put_json(values, nulls, 9, row ? row->attrs : NULL);
	put_row(fcinfo, values, nulls);
}

/* ---------------------------------------------------------------- functions */

/* adapter_build(platform, settings, items): the request that the first items would make. */
Datum
adapter_build(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterRequest	  request;
	const Adapter	 *adapter = open_connection(fcinfo, &conn);
	int				  n;
	AdapterItem		 *items = items_argument(fcinfo, &n);

	InitMaterializedSRF(fcinfo, 0);
	adapter->build(&conn, items, n, &request);
	put_request(fcinfo, &request);
	return (Datum) 0;
}

/* How large a request is: nothing of its body leaves. */
static void
put_measure(FunctionCallInfo fcinfo, const AdapterRequest *request)
{
	Datum values[4];
	bool  nulls[4] = {false};

	put_text(values, nulls, 0, request->api);
	values[1] = Int32GetDatum(request->nused);
	values[2] = Int32GetDatum(request->subrequests);
	values[3] = Int64GetDatum((int64) (strlen(request->path) + request->body_len));
	put_row(fcinfo, values, nulls);
}

/* adapter_measure(platform, settings, items): how much of them one request would take, and its size in bytes. */
Datum
adapter_measure(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterRequest	  request;
	const Adapter	 *adapter = open_connection(fcinfo, &conn);
	int				  n;
	AdapterItem		 *items = items_argument(fcinfo, &n);

	InitMaterializedSRF(fcinfo, 0);
	adapter->build(&conn, items, n, &request);
	put_measure(fcinfo, &request);
	return (Datum) 0;
}

/* adapter_measure_lookup(platform, settings, lookups): the same for look-ups. */
Datum
adapter_measure_lookup(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterRequest	  request;
	const Adapter	 *adapter = open_connection(fcinfo, &conn);
	int				  n;
	AdapterLookup	 *lookups = lookups_argument(fcinfo, &n);

	InitMaterializedSRF(fcinfo, 0);
	adapter->build_lookup(&conn, lookups, n, &request);
	put_measure(fcinfo, &request);
	return (Datum) 0;
}

/* adapter_read(platform, settings, items, status, content type, body, retry after): what an answer to that means. */
Datum
adapter_read(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterRequest	  request;
	AdapterResponse	  response;
	const Adapter	 *adapter = open_connection(fcinfo, &conn);
	int				  n;
	AdapterItem		 *items = items_argument(fcinfo, &n);
	AdapterOutcome	 *outcomes = palloc0(sizeof(AdapterOutcome) * n);
	ResponseVerdict	  verdict;
	AdapterReport	  report = {0};

	InitMaterializedSRF(fcinfo, 0);
	response_argument(fcinfo, &response);
	adapter->build(&conn, items, n, &request);
	verdict = adapter->read(&conn, items, &request, &response, outcomes, &report);
	if (verdict != RESPONSE_READABLE)
		put_verdict(fcinfo, 12, verdict, 5, report.error_class, report.message);
	for (int i = 0; verdict == RESPONSE_READABLE && i < request.nused; i++)
		put_outcome(fcinfo, &items[i], &outcomes[i]);
	return (Datum) 0;
}

/* adapter_build_lookup(platform, settings, lookups): the same for look-ups. */
Datum
adapter_build_lookup(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterRequest	  request;
	const Adapter	 *adapter = open_connection(fcinfo, &conn);
	int				  n;
	AdapterLookup	 *lookups = lookups_argument(fcinfo, &n);

	InitMaterializedSRF(fcinfo, 0);
	adapter->build_lookup(&conn, lookups, n, &request);
	put_request(fcinfo, &request);
	return (Datum) 0;
}

static void
put_lookup_rows(FunctionCallInfo fcinfo, const AdapterLookup *lookups, int number, const AdapterLookupResult *result)
{
	bool any = false;

	for (int i = 0; i < result->nrows; i++)
	{
		if (result->rows[i].lookup != number)
			continue;
		put_lookup(fcinfo, &lookups[number], result, number, &result->rows[i]);
		any = true;
	}
	if (!any)
		put_lookup(fcinfo, &lookups[number], result, number, NULL);
}

/* adapter_read_lookup(platform, settings, lookups, status, content type, body): one row an answer, at least one a look-up. */
Datum
adapter_read_lookup(PG_FUNCTION_ARGS)
{
	AdapterConnection	conn;
	AdapterRequest		request;
	AdapterResponse		response;
	AdapterLookupResult result;
	const Adapter	   *adapter = open_connection(fcinfo, &conn);
	int					n;
	AdapterLookup	   *lookups = lookups_argument(fcinfo, &n);
	ResponseVerdict		verdict;
	AdapterReport		report = {0};

	InitMaterializedSRF(fcinfo, 0);
	response_argument(fcinfo, &response);
	adapter->build_lookup(&conn, lookups, n, &request);
	verdict = adapter->read_lookup(&conn, lookups, &request, &response, &result, &report);
	if (verdict != RESPONSE_READABLE)
		put_verdict(fcinfo, 10, verdict, 3, report.error_class, report.message);
	for (int i = 0; verdict == RESPONSE_READABLE && i < request.nused; i++)
		put_lookup_rows(fcinfo, lookups, i, &result);
	return (Datum) 0;
}

static void
put_rate(FunctionCallInfo fcinfo, const AdapterRate *rate)
{
	Datum values[5];
	bool  nulls[5] = {false};

	put_text(values, nulls, 0, rate->rule);
	values[1] = Int64GetDatum(rate->limit);
	values[2] = Int64GetDatum(rate->reset);
	values[3] = Int32GetDatum(rate->counted);
	values[4] = BoolGetDatum(rate->exhausted);
	nulls[1] = rate->limit < 0;
	nulls[2] = rate->reset < 0;
	put_row(fcinfo, values, nulls);
}

/* adapter_rates(platform, settings, items, status, content type, body): the rate-limit rules that the answer's parts name. */
Datum
adapter_rates(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterRequest	  request;
	AdapterResponse	  response;
	const Adapter	 *adapter = open_connection(fcinfo, &conn);
	int				  n;
	AdapterItem		 *items = items_argument(fcinfo, &n);
	AdapterOutcome	 *outcomes = palloc0(sizeof(AdapterOutcome) * n);
	AdapterReport	  report = {0};

	InitMaterializedSRF(fcinfo, 0);
	response_argument(fcinfo, &response);
	adapter->build(&conn, items, n, &request);
	(void) adapter->read(&conn, items, &request, &response, outcomes, &report);
	for (int i = 0; i < report.nrates; i++)
		put_rate(fcinfo, &report.rates[i]);
	return (Datum) 0;
}

static const Adapter *
lane_argument(FunctionCallInfo fcinfo, AdapterConnection *conn, AdapterLane *lane)
{
	const Adapter *adapter = open_connection(fcinfo, conn);

	adapter->lane(conn, text_to_cstring(PG_GETARG_TEXT_PP(2)), text_to_cstring(PG_GETARG_TEXT_PP(3)), PG_GETARG_BOOL(4),
				  lane);
	return adapter;
}

/* adapter_limits(platform, settings, entity_type, action, in_doubt): how much fits, and may it be repeated? */
Datum
adapter_limits(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterLane		  lane;
	const Adapter	 *adapter = lane_argument(fcinfo, &conn, &lane);
	Datum			  values[6];
	bool			  nulls[6] = {false};

	InitMaterializedSRF(fcinfo, 0);
	values[0] = Int32GetDatum(lane.max_items);
	values[1] = BoolGetDatum(
		adapter->idempotent(&conn, text_to_cstring(PG_GETARG_TEXT_PP(2)), text_to_cstring(PG_GETARG_TEXT_PP(3))));
	values[2] = Int32GetDatum(adapter->max_lookups(&conn));
	values[3] = Int32GetDatum(lane.max_records);
	values[4] = BoolGetDatum(lane.ends_inside);
	values[5] = Int32GetDatum(lane.nkinds);
	put_row(fcinfo, values, nulls);
	return (Datum) 0;
}

/* adapter_lane(platform, settings, entity_type, action, in_doubt): the kinds that may share a request with this one. */
Datum
adapter_lane(PG_FUNCTION_ARGS)
{
	AdapterConnection conn;
	AdapterLane		  lane;
	Datum			  values[2];
	bool			  nulls[2] = {false};

	(void) lane_argument(fcinfo, &conn, &lane);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < lane.nkinds; i++)
	{
		put_text(values, nulls, 0, lane.entity_types[i]);
		put_text(values, nulls, 1, lane.actions[i]);
		put_row(fcinfo, values, nulls);
	}
	return (Datum) 0;
}

/* adapter_outcomes(platform): the table of outcomes, in its own order. */
Datum
adapter_outcomes(PG_FUNCTION_ARGS)
{
	char		  *platform = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const Adapter *adapter = adapter_for(platform);

	if (adapter == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("platform \"%s\" has no adapter", platform)));
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < adapter->nrules; i++)
	{
		const AdapterRule *rule = &adapter->rules[i];
		Datum			   values[5];
		bool			   nulls[5] = {false};

		put_text(values, nulls, 0, rule->layer);
		put_text(values, nulls, 1, rule->match);
		put_text(values, nulls, 2, rule->outcome);
		put_text(values, nulls, 3, rule->reason);
		put_text(values, nulls, 4, rule->hint);
		put_row(fcinfo, values, nulls);
	}
	return (Datum) 0;
}

/* ----------------------------------------------------- requests that follow one another */

/* The n-th answer of an array of {status, body}: a body that is no string is sent as its JSON text. */
static void
fill_answer(struct json_object *answer, AdapterResponse *response)
{
	const char *text = text_of(answer, "body");

	memset(response, 0, sizeof(*response));
	response->status = (int) json_int(answer, "status", 200);
	response->content_type = text_of(answer, "content_type");
	response->body = text ? text : "";
	response->body_len = strlen(response->body);
	response->retry_after_s = -1;
	if (response->status == 0)
	{
		response->transport_class = response->content_type ? response->content_type : "BROKEN";
		response->transport_message = "the connection was closed";
	}
}

static void
put_turn(FunctionCallInfo fcinfo, int n, const AdapterRequest *request)
{
	Datum values[13];
	bool  nulls[13];

	memset(nulls, true, sizeof(nulls));
	nulls[0] = false;
	values[0] = Int32GetDatum(n);
	put_text(values, nulls, 1, request->method);
	put_text(values, nulls, 2, json_to_server(request->path));
	put_json(values, nulls, 3, json_to_server(request->body));
	put_row(fcinfo, values, nulls);
}

static void
put_end(FunctionCallInfo fcinfo, int64 id, const char *words[9])
{
	Datum values[13];
	bool  nulls[13];

	memset(nulls, true, sizeof(nulls));
	nulls[4] = id == 0;
	values[4] = Int64GetDatum(id);
	for (int i = 0; i < 8; i++)
		put_text(values, nulls, 5 + i, words[i]);
	put_row(fcinfo, values, nulls);
}

/* As many answers as there are requests: one that nobody asked for is an error of the test. */
static bool
take_answer(struct json_object *answers, int n, AdapterResponse *response)
{
	if (n >= json_count(answers))
		return false;
	fill_answer(json_item(answers, n), response);
	return true;
}

static void
check_all_taken(struct json_object *answers, int n)
{
	if (n < json_count(answers))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the adapter asked for %d answers, and %d were given", n, json_count(answers))));
}

/* adapter_converse(platform, settings, items, answers): the requests, and the outcomes if no more of them follow. */
Datum
adapter_converse(PG_FUNCTION_ARGS)
{
	AdapterConnection	conn;
	AdapterRequest		request;
	AdapterResponse		response;
	AdapterReport		report = {0};
	const Adapter	   *adapter = open_connection(fcinfo, &conn);
	int					n;
	AdapterItem		   *items = items_argument(fcinfo, &n);
	struct json_object *answers = json_argument(fcinfo, 3, "answers");
	AdapterOutcome	   *outcomes = palloc0(sizeof(AdapterOutcome) * n);
	ResponseVerdict		verdict;
	int					turn = 0;

	InitMaterializedSRF(fcinfo, 0);
	adapter->build(&conn, items, n, &request);
	do
	{
		put_turn(fcinfo, turn + 1, &request);
		if (!take_answer(answers, turn++, &response))
			return (Datum) 0;
	} while (response.status != 0 && adapter->follow != NULL && adapter->follow(&conn, items, &request, &response));
	check_all_taken(answers, turn);
	verdict = adapter->read(&conn, items, &request, &response, outcomes, &report);
	if (verdict != RESPONSE_READABLE)
		put_end(fcinfo, 0,
				(const char *[9]){verdict_word(verdict), NULL, NULL, NULL, report.error_class, report.message});
	for (int i = 0; verdict == RESPONSE_READABLE && i < request.nused; i++)
		put_end(fcinfo, items[i].item_id,
				(const char *[9]){outcome_word(outcomes[i].kind), outcomes[i].operation, outcomes[i].external_id,
								  outcomes[i].external_table, outcomes[i].error_class, outcomes[i].message,
								  outcomes[i].not_taken, outcomes[i].external_number});
	return (Datum) 0;
}

/* adapter_converse_lookup(platform, settings, lookups, answers): the same for look-ups. */
Datum
adapter_converse_lookup(PG_FUNCTION_ARGS)
{
	AdapterConnection	conn;
	AdapterRequest		request;
	AdapterResponse		response;
	AdapterReport		report = {0};
	AdapterLookupResult result;
	const Adapter	   *adapter = open_connection(fcinfo, &conn);
	int					n;
	AdapterLookup	   *lookups = lookups_argument(fcinfo, &n);
	struct json_object *answers = json_argument(fcinfo, 3, "answers");
	ResponseVerdict		verdict;
	int					turn = 0;

	InitMaterializedSRF(fcinfo, 0);
	result = (AdapterLookupResult){.kinds = palloc0(sizeof(OutcomeKind) * n),
								   .error_classes = palloc0(sizeof(char *) * n),
								   .messages = palloc0(sizeof(char *) * n)};
	adapter->build_lookup(&conn, lookups, n, &request);
	do
	{
		put_turn(fcinfo, turn + 1, &request);
		if (!take_answer(answers, turn++, &response))
			return (Datum) 0;
	} while (response.status != 0 && adapter->follow_lookup != NULL &&
			 adapter->follow_lookup(&conn, lookups, &request, &response));
	check_all_taken(answers, turn);
	verdict = adapter->read_lookup(&conn, lookups, &request, &response, &result, &report);
	if (verdict != RESPONSE_READABLE)
		put_end(fcinfo, 0,
				(const char *[9]){verdict_word(verdict), NULL, NULL, NULL, report.error_class, report.message});
	for (int i = 0; verdict == RESPONSE_READABLE && i < request.nused; i++)
		if (result.kinds[i] != OUTCOME_DONE)
			put_end(fcinfo, lookups[i].lookup_id,
					(const char *[9]){outcome_word(result.kinds[i]), NULL, NULL, NULL, result.error_classes[i],
									  result.messages[i]});
	for (int i = 0; verdict == RESPONSE_READABLE && i < result.nrows; i++)
		put_end(fcinfo, lookups[result.rows[i].lookup].lookup_id,
				(const char *[9]){"done", result.rows[i].key, result.rows[i].external_id, result.rows[i].external_table,
								  NULL, result.rows[i].label, result.rows[i].attrs, NULL});
	return (Datum) 0;
}
