/*
 * queue.c
 *	  Thin, typed calls of the internal SQL functions; their transaction.
 *
 * A call is one prepared statement, kept for the process's life, and a check
 * that the function still returns what is read here.  What the functions do
 * is SQL's matter (src/sql); this file adds no meaning.
 *
 * Must not: name a table, know a platform, talk to the network.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "json.h"
#include "queue.h"

#define MAX_ARGS 15
#define MAX_COLUMNS 23

/* One statement.  types and result end with InvalidOid. */
typedef struct Call
{
	const char *sql;
	Oid			types[MAX_ARGS + 1];
	Oid			result[MAX_COLUMNS + 1];
	SPIPlanPtr	plan;
} Call;

/* Arguments on their way into a call, in its order. */
typedef struct Args
{
	int	  n;
	Datum values[MAX_ARGS];
	char  nulls[MAX_ARGS];
} Args;

/* The context and the extension of the transaction that is open. */
static MemoryContext caller_context = NULL;
static Oid			 known_extension = InvalidOid;

/* ----------------------------------------------------------------
 * The transaction
 * ----------------------------------------------------------------
 */

/*
 * Locks the extension against being dropped, and says whether it is there and
 * the one this process began with: ids of another one start again at 1.
 */
static bool
hold_extension(void)
{
	Oid oid = get_extension_oid("pgsync_itsm", true);

	if (!OidIsValid(oid))
		return false;
	LockDatabaseObject(ExtensionRelationId, oid, 0, AccessShareLock);
	if (get_extension_oid("pgsync_itsm", true) != oid)
		return false;
	if (!OidIsValid(known_extension))
		known_extension = oid;
	return oid == known_extension && !creating_extension;
}

bool
queue_begin(const char *text)
{
	caller_context = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, text);
	if (!hold_extension())
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller_context);
		return false;
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(caller_context);
	return true;
}

void
queue_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller_context);
	(void) pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
queue_abort(void)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(caller_context);
	(void) pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
queue_flush_statistics(void)
{
	(void) pgstat_report_stat(true);
}

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

static void
put(Args *args, Datum value, bool isnull)
{
	Assert(args->n < MAX_ARGS);
	args->values[args->n] = value;
	args->nulls[args->n] = isnull ? 'n' : ' ';
	args->n++;
}

static void
put_bigint(Args *args, int64 value)
{
	put(args, Int64GetDatum(value), false);
}

static void
put_int(Args *args, int value)
{
	put(args, Int32GetDatum(value), false);
}

static void
put_bool(Args *args, bool value)
{
	put(args, BoolGetDatum(value), false);
}

static void
put_uuid(Args *args, const pg_uuid_t *value)
{
	put(args, UUIDPGetDatum(value), false);
}

static void
put_text(Args *args, const char *value)
{
	put(args, value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

/* -1: the platform said nothing. */
static void
put_seconds(Args *args, long seconds)
{
	put(args, Float8GetDatum((float8) seconds), seconds < 0);
}

static void
put_array(Args *args, Oid type, int16 len, bool byval, char align, int n, Datum *values, bool *nulls)
{
	int		   dims[1] = {n};
	int		   lbs[1] = {1};
	ArrayType *array;

	if (n == 0)
		array = construct_empty_array(type);
	else
		array = construct_md_array(values, nulls, 1, dims, lbs, type, len, byval, align);
	put(args, PointerGetDatum(array), false);
}

static void
put_bigints(Args *args, int n, Datum *values)
{
	put_array(args, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, n, values, NULL);
}

static void
put_ints(Args *args, int n, Datum *values)
{
	put_array(args, INT4OID, sizeof(int32), true, TYPALIGN_INT, n, values, NULL);
}

/*
 * A text[] of one member of each of n structs: first is the member's address
 * in the first struct, stride the structs' size.
 */
static void
put_texts(Args *args, int n, const char *const *first, size_t stride)
{
	Datum *values = palloc(sizeof(Datum) * Max(n, 1));
	bool  *nulls = palloc(sizeof(bool) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		const char *value = *(const char *const *) ((const char *) first + i * stride);

		nulls[i] = value == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(value);
	}
	put_array(args, TEXTOID, -1, false, TYPALIGN_INT, n, values, nulls);
}

/* ----------------------------------------------------------------
 * Calling
 * ----------------------------------------------------------------
 */

static void
prepare(Call *call)
{
	int nargs = 0;

	while (OidIsValid(call->types[nargs]))
		nargs++;
	call->plan = SPI_prepare(call->sql, nargs, call->types);
	if (call->plan == NULL || SPI_keepplan(call->plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", call->sql, SPI_result_code_string(SPI_result));
}

static void
check_result(const Call *call)
{
	TupleDesc desc = SPI_tuptable->tupdesc;

	for (int i = 0; i < desc->natts || OidIsValid(call->result[i]); i++)
		if (i >= desc->natts || TupleDescAttr(desc, i)->atttypid != call->result[i])
			elog(ERROR, "column %d of \"%s\" is not of the type expected", i + 1, call->sql);
}

/*
 * Runs a call and returns the number of rows, which are in SPI_tuptable until
 * done_rows().  The caller's context is current again.
 */
static int
run_call(Call *call, Args *args)
{
	MemoryContext caller = CurrentMemoryContext;
	int			  result;

	if (call->plan == NULL)
		prepare(call);
	result = SPI_execute_plan(call->plan, args->values, args->nulls, false, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\": %s", call->sql, SPI_result_code_string(result));
	check_result(call);
	MemoryContextSwitchTo(caller);
	return (int) SPI_processed;
}

static void
done_rows(void)
{
	SPI_freetuptable(SPI_tuptable);
}

/* A call whose result does not matter. */
static void
run_void(Call *call, Args *args)
{
	(void) run_call(call, args);
	done_rows();
}

/* ----------------------------------------------------------------
 * Results; columns count from 1
 * ----------------------------------------------------------------
 */

static Datum
get(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* These give 0 for null. */
static int64
get_bigint(int row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static int
get_int(int row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

static bool
get_bool(int row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* Makes a call that gives one truth value; NULL is false. */
static bool
take_bool(Call *call, Args *args)
{
	bool result = run_call(call, args) == 1 && get_bool(0, 1);

	done_rows();
	return result;
}

static pg_uuid_t
get_uuid(int row, int column)
{
	bool	  isnull;
	Datum	  value = get(row, column, &isnull);
	pg_uuid_t uuid = {{0}};

	return isnull ? uuid : *DatumGetUUIDP(value);
}

/* text or json, in the server's encoding */
static const char *
get_server_text(int row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static const char *
get_text(int row, int column)
{
	const char *server = get_server_text(row, column);
	const char *utf8;

	if (server == NULL)
		return NULL;
	utf8 = json_to_utf8(server);
	pfree(unconstify(char *, server));
	return utf8;
}

/* Texts that many rows have in common: each is kept once, so that what is on the wire takes less room. */
#define MAX_WORDS 16

typedef struct Words
{
	int			n;
	const char *words[MAX_WORDS];
} Words;

static const char *
get_word(Words *known, int row, int column)
{
	const char *word = get_text(row, column);

	if (word == NULL)
		return NULL;
	for (int i = known->n - 1; i >= 0; i--)
	{
		if (strcmp(known->words[i], word) == 0)
		{
			pfree(unconstify(char *, word));
			return known->words[i];
		}
	}
	if (known->n < MAX_WORDS)
		known->words[known->n++] = word;
	return word;
}

static const char **
get_texts(int row, int column, int *n)
{
	bool		 isnull;
	Datum		 value = get(row, column, &isnull);
	Datum		*elements;
	bool		*nulls;
	const char **texts;

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, n);
	texts = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		texts[i] = nulls[i] ? "" : json_to_utf8(TextDatumGetCString(elements[i]));
	return texts;
}

/* of bigint[] without nulls */
static int64 *
get_bigints(int row, int column, int *n)
{
	bool   isnull;
	Datum  value = get(row, column, &isnull);
	Datum *elements;
	int64 *values;

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements,
					  NULL, n);
	values = palloc(sizeof(int64) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		values[i] = DatumGetInt64(elements[i]);
	return values;
}

/* ----------------------------------------------------------------
 * The worker's calls
 * ----------------------------------------------------------------
 */

bool
queue_worker_ready(void)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.worker_ready()",
		.result = {BOOLOID},
	};
	Args args = {0};

	return take_bool(&call, &args);
}

void
queue_recover(void)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.recover()",
		.result = {VOIDOID},
	};
	Args args = {0};

	run_void(&call, &args);
}

static QueueWork
work_named(const char *name)
{
	static const struct
	{
		const char *name;
		QueueWork	work;
	} known[] = {
		{"plan_here", QUEUE_PLAN_HERE}, {"plan", QUEUE_PLAN},	  {"plan_slow", QUEUE_PLAN_SLOW},
		{"cancel", QUEUE_CANCEL},		{"lookup", QUEUE_LOOKUP}, {"write", QUEUE_WRITE},
		{"sleep", QUEUE_SLEEP},
	};

	for (size_t i = 0; i < lengthof(known); i++)
		if (name && strcmp(known[i].name, name) == 0)
			return known[i].work;
	elog(ERROR, "unknown work \"%s\"", name ? name : "NULL");
}

int
queue_turn(bool leases, QueueTurn **turns)
{
	static Call call = {
		.sql = "SELECT what, connection_id, run_id, due FROM pgsync_itsm.turn($1)",
		.types = {BOOLOID},
		.result = {TEXTOID, UUIDOID, INT8OID, TIMESTAMPTZOID},
	};
	Args args = {0};
	int	 n;

	put_bool(&args, leases);
	n = run_call(&call, &args);
	*turns = palloc0(sizeof(QueueTurn) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		QueueTurn *turn = &(*turns)[i];

		turn->what = work_named(get_server_text(i, 1));
		turn->connection_id = get_uuid(i, 2);
		turn->run_id = get_bigint(i, 3);
		turn->due = get_bigint(i, 4);
	}
	done_rows();
	return n;
}

/* ----------------------------------------------------------------
 * Connections
 * ----------------------------------------------------------------
 */

static QueueConnection *
read_connection(void)
{
	QueueConnection *conn = palloc0(sizeof(QueueConnection));

	conn->namespace_id = get_uuid(0, 1);
	conn->platform = get_text(0, 2);
	conn->instance_url = get_text(0, 3);
	conn->auth_type = get_text(0, 4);
	conn->oauth_grant = get_text(0, 5);
	conn->client_id_ref = get_server_text(0, 6);
	conn->client_secret_ref = get_server_text(0, 7);
	conn->username_ref = get_server_text(0, 8);
	conn->password_ref = get_server_text(0, 9);
	conn->api_key_ref = get_server_text(0, 10);
	conn->client_cert_file = get_server_text(0, 11);
	conn->client_key_file = get_server_text(0, 12);
	conn->max_concurrency = get_int(0, 13);
	conn->settings = get_text(0, 14);
	conn->token_url_path = get_text(0, 15);
	return conn;
}

QueueConnection *
queue_connection(const pg_uuid_t *connection_id)
{
	static Call call = {
		.sql = "SELECT namespace_id, platform, instance_url, auth_type, oauth_grant, client_id_ref,"
			   " client_secret_ref, username_ref, password_ref, api_key_ref, client_cert_file, client_key_file,"
			   " max_concurrency, settings, token_url_path FROM pgsync_itsm.connection_info($1)",
		.types = {UUIDOID},
		.result = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
				   TEXTOID, INT4OID, JSONOID, TEXTOID},
	};
	Args			 args = {0};
	QueueConnection *conn = NULL;

	put_uuid(&args, connection_id);
	if (run_call(&call, &args) > 0)
		conn = read_connection();
	done_rows();
	return conn;
}

void
queue_pause_connection(const pg_uuid_t *connection_id, const char *error_class, const char *message)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.pause_connection($1, $2, $3)",
		.types = {UUIDOID, TEXTOID, TEXTOID},
		.result = {VOIDOID},
	};
	Args args = {0};

	put_uuid(&args, connection_id);
	put_text(&args, error_class);
	put_text(&args, message);
	run_void(&call, &args);
}

void
queue_connection_trouble(const pg_uuid_t *connection_id, const char *error_class, const char *message)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.connection_trouble($1, $2, $3)",
		.types = {UUIDOID, TEXTOID, TEXTOID},
		.result = {VOIDOID},
	};
	Args args = {0};

	put_uuid(&args, connection_id);
	put_text(&args, error_class);
	put_text(&args, message);
	run_void(&call, &args);
}

void
queue_count_requests(const pg_uuid_t *connection_id, const QueueCount *count)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.count_requests($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		.types = {UUIDOID, INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID},
		.result = {VOIDOID},
	};
	Args args = {0};

	put_uuid(&args, connection_id);
	put(&args, Int64GetDatum(count->run_id), count->run_id == 0);
	put_text(&args, count->step);
	put_bigint(&args, count->requests);
	put_bigint(&args, count->writes);
	put_bigint(&args, count->subrequests);
	put_bigint(&args, count->bytes_sent);
	put_bigint(&args, count->bytes_received);
	put_bigint(&args, count->elapsed_us / 1000);
	run_void(&call, &args);
}

/* ----------------------------------------------------------------
 * Pace
 * ----------------------------------------------------------------
 */

static void
read_rules(Pace *pace)
{
	int			 nrules;
	int			 napis;
	int			 n;
	const char **names = get_texts(0, 1, &nrules);
	int64		*limits = get_bigints(0, 2, &n);
	int64		*used = get_bigints(0, 3, &n);
	int64		*resets = get_bigints(0, 4, &n);
	int64		*subs = get_bigints(0, 5, &n);
	const char **apis = get_texts(0, 6, &napis);
	int64		*api_rules = get_bigints(0, 7, &n);

	pace->nrules = Min(Max(nrules, 1), PACE_MAX_RULES);
	for (int i = 0; i < Min(nrules, PACE_MAX_RULES); i++)
	{
		PaceRule *rule = &pace->rules[i];

		strlcpy(rule->name, names[i], sizeof(rule->name));
		/* our own ceiling is a setting, and has been read already */
		rule->limit = i > 0 ? limits[i] : rule->limit;
		rule->used = used[i];
		rule->resets_at = resets[i];
		rule->subs = (subs[i] & 1) != 0;
		rule->guessed = (subs[i] & 2) != 0;
	}
	pace->napis = Min(napis, PACE_MAX_APIS);
	for (int i = 0; i < pace->napis; i++)
	{
		strlcpy(pace->apis[i].name, apis[i], sizeof(pace->apis[i].name));
		pace->apis[i].rule = api_rules[i] > 0 && api_rules[i] < pace->nrules ? (int) api_rules[i] : -1;
	}
}

void
queue_load_pace(const pg_uuid_t *connection_id, Pace *pace)
{
	static Call call = {
		.sql = "SELECT rules, limits, used, ARRAY(SELECT (extract(epoch FROM r) * 1000000)::bigint - 946684800000000"
			   " FROM unnest(resets) WITH ORDINALITY AS u(r, n) ORDER BY n), subs::bigint[], apis, api_rules::bigint[]"
			   " FROM pgsync_itsm.load_pace($1)",
		.types = {UUIDOID},
		.result = {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID},
	};
	Args args = {0};

	put_uuid(&args, connection_id);
	if (run_call(&call, &args) > 0)
		read_rules(pace);
	done_rows();
}

static void
put_rules(Args *args, const Pace *pace)
{
	Datum		limits[PACE_MAX_RULES];
	Datum		used[PACE_MAX_RULES];
	Datum		resets[PACE_MAX_RULES];
	Datum		subs[PACE_MAX_RULES];
	const char *names[PACE_MAX_RULES];

	for (int i = 0; i < pace->nrules; i++)
	{
		const PaceRule *rule = &pace->rules[i];

		names[i] = rule->name;
		limits[i] = Int64GetDatum(rule->limit);
		used[i] = Int64GetDatum(rule->used);
		resets[i] = TimestampTzGetDatum(rule->resets_at);
		subs[i] = Int32GetDatum((rule->subs ? 1 : 0) | (rule->guessed ? 2 : 0));
	}
	put_texts(args, pace->nrules, names, sizeof(char *));
	put_bigints(args, pace->nrules, limits);
	put_bigints(args, pace->nrules, used);
	put_array(args, TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, pace->nrules, resets, NULL);
	put_ints(args, pace->nrules, subs);
}

static void
put_apis(Args *args, const Pace *pace)
{
	const char *names[PACE_MAX_APIS];
	Datum		rules[PACE_MAX_APIS];

	for (int i = 0; i < pace->napis; i++)
	{
		names[i] = pace->apis[i].name;
		rules[i] = Int32GetDatum(pace->apis[i].rule);
	}
	put_texts(args, pace->napis, names, sizeof(char *));
	put_ints(args, pace->napis, rules);
}

void
queue_save_pace(const pg_uuid_t *connection_id, const Pace *pace, const char *state, const char *reason,
				TimestampTz until)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.save_pace($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
		.types = {UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
				  TIMESTAMPTZARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID},
		.result = {VOIDOID},
	};
	Args args = {0};

	put_uuid(&args, connection_id);
	put_text(&args, state);
	put_text(&args, reason);
	put(&args, TimestampTzGetDatum(until), until == 0);
	put_int(&args, (int) pace->slots);
	put_rules(&args, pace);
	put_apis(&args, pace);
	run_void(&call, &args);
}

/* ----------------------------------------------------------------
 * Items
 * ----------------------------------------------------------------
 */

bool
queue_next_batch(const pg_uuid_t *connection_id, bool bundled, int64 after, bool front, QueueBatch *batch)
{
	static Call call = {
		.sql = "SELECT run_id, step, entity_type, action, in_doubt, item_id, in_front"
			   " FROM pgsync_itsm.next_batch($1, $2, $3, $4)",
		.types = {UUIDOID, BOOLOID, INT8OID, BOOLOID},
		.result = {INT8OID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, BOOLOID},
	};
	Args args = {0};
	bool found;

	put_uuid(&args, connection_id);
	put_bool(&args, bundled);
	put_bigint(&args, after);
	put_bool(&args, front);
	found = run_call(&call, &args) > 0;
	if (found)
	{
		batch->run_id = get_bigint(0, 1);
		strlcpy(batch->step, get_text(0, 2), sizeof(batch->step));
		strlcpy(batch->entity_type, get_text(0, 3), sizeof(batch->entity_type));
		strlcpy(batch->action, get_text(0, 4), sizeof(batch->action));
		batch->in_doubt = get_bool(0, 5);
		batch->claimed_to = get_bigint(0, 6) - 1;
		batch->in_front = get_bool(0, 7);
	}
	done_rows();
	return found;
}

/* Which record a row is about, or one of its ends. */
typedef struct RecordTag
{
	char	  entity_type[32];
	pg_uuid_t entity_id;
} RecordTag;

typedef struct RecordEntry
{
	RecordTag	tag;
	const char *native_key;
} RecordEntry;

/* words: one for each column */
static void
read_item(int row, Words *words, AdapterItem *item, const char **step)
{
	item->item_id = get_bigint(row, 1);
	item->claim_id = get_bigint(row, 2);
	*step = get_word(&words[3], row, 3);
	item->entity_type = get_word(&words[4], row, 4);
	item->action = get_word(&words[6], row, 6);
	item->native_key = get_text(row, 7);
	item->external_id = get_text(row, 8);
	item->external_table = get_word(&words[9], row, 9);
	item->payload = get_text(row, 10);
	item->parent_external_id = get_text(row, 13);
	item->parent_table = get_word(&words[14], row, 14);
	item->child_external_id = get_text(row, 17);
	item->child_table = get_word(&words[18], row, 18);
	item->rel_type = get_word(&words[19], row, 19);
	item->rel_type_id = get_word(&words[20], row, 20);
	item->bundle = get_bigint(row, 21);
	item->attempts = get_int(row, 22);
	item->in_doubt = get_bool(row, 23);
}

/* The record in columns (type, id) of a row; false if there is none. */
static bool
read_tag(int row, int type_column, int id_column, RecordTag *tag)
{
	const char *entity_type = get_server_text(row, type_column);

	memset(tag, 0, sizeof(*tag));
	if (entity_type == NULL)
		return false;
	strlcpy(tag->entity_type, entity_type, sizeof(tag->entity_type));
	tag->entity_id = get_uuid(row, id_column);
	return true;
}

static const char *
find_native_key(HTAB *records, int row, int type_column, int id_column)
{
	RecordTag	 tag;
	RecordEntry *entry = NULL;

	if (read_tag(row, type_column, id_column, &tag))
		entry = hash_search(records, &tag, HASH_FIND, NULL);
	return entry ? entry->native_key : NULL;
}

/* An end that the platform doesn't have yet is a record of the same claim: relationships get its key. */
static void
find_ends(int n, AdapterItem *items)
{
	HASHCTL ctl = {.keysize = sizeof(RecordTag), .entrysize = sizeof(RecordEntry), .hcxt = CurrentMemoryContext};
	HTAB *records = hash_create("pgsync_itsm claimed records", Max(n, 16), &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (int i = 0; i < n; i++)
	{
		RecordTag tag;

		if (items[i].payload && read_tag(i, 4, 5, &tag))
			((RecordEntry *) hash_search(records, &tag, HASH_ENTER, NULL))->native_key = items[i].native_key;
	}
	for (int i = 0; i < n; i++)
	{
		if (items[i].parent_external_id == NULL)
			items[i].parent_native_key = find_native_key(records, i, 11, 12);
		if (items[i].child_external_id == NULL)
			items[i].child_native_key = find_native_key(records, i, 15, 16);
	}
	hash_destroy(records);
}

/* The kinds of a lane as pgsync_itsm.claim() compares them: entity type and action. */
static void
put_kinds(Args *args, const AdapterLane *lane)
{
	const char *kinds[ADAPTER_MAX_KINDS];

	for (int i = 0; i < lane->nkinds; i++)
		kinds[i] = psprintf("%s %s", lane->entity_types[i], lane->actions[i]);
	put_texts(args, lane->nkinds, kinds, sizeof(char *));
}

int
queue_claim(const pg_uuid_t *connection_id, const QueueClaim *claim, AdapterItem **items, const char ***steps)
{
	static Call call = {
		.sql = "SELECT item_id, claim_id, step, entity_type, entity_id, action, native_key, external_id,"
			   " external_table, payload, parent_type, parent_id, parent_external_id, parent_table, child_type,"
			   " child_id, child_external_id, child_table, rel_type, rel_type_id, bundle, attempts, in_doubt"
			   " FROM pgsync_itsm.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
		.types = {UUIDOID, INT8OID, TEXTARRAYOID, BOOLOID, BOOLOID, BOOLOID, INT4OID, INT4OID, INT4OID, BOOLOID,
				  INT8OID, BOOLOID},
		.result = {INT8OID, INT8OID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID,
				   TEXTOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID,
				   TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT4OID, BOOLOID},
	};
	Args  args = {0};
	Words words[MAX_COLUMNS + 1] = {0};
	int	  n;

	put_uuid(&args, connection_id);
	put_bigint(&args, claim->run_id);
	put_kinds(&args, claim->lane);
	put_bool(&args, claim->in_doubt);
	put_bool(&args, claim->lane->ends_inside);
	put_bool(&args, claim->bundled);
	put_int(&args, claim->max_records);
	put_int(&args, claim->max_items);
	put_int(&args, claim->lease_seconds);
	put_bool(&args, claim->repeatable);
	put_bigint(&args, claim->after);
	put_bool(&args, claim->lane->one_parent);
	n = run_call(&call, &args);
	*items = palloc0(sizeof(AdapterItem) * Max(n, 1));
	*steps = palloc0(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		read_item(i, words, &(*items)[i], &(*steps)[i]);
	if (claim->lane->ends_inside)
		find_ends(n, *items);
	done_rows();
	return n;
}

static const char *
outcome_name(OutcomeKind kind)
{
	static const char *const names[] = {
		[OUTCOME_DONE] = "done",   [OUTCOME_UNCHANGED] = "unchanged", [OUTCOME_RETRY] = "retry",
		[OUTCOME_DEAD] = "dead",   [OUTCOME_RECHECKED] = "rechecked", [OUTCOME_RELEASE] = "release",
		[OUTCOME_AGAIN] = "again",
	};

	return names[kind];
}

static void
put_outcomes(Args *args, int n, const QueueOutcome *outcomes)
{
	Datum		*ids = palloc(sizeof(Datum) * n);
	Datum		*claims = palloc(sizeof(Datum) * n);
	const char **names = palloc(sizeof(char *) * n);

	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(outcomes[i].item->item_id);
		claims[i] = Int64GetDatum(outcomes[i].item->claim_id);
		names[i] = outcome_name(outcomes[i].outcome.kind);
	}
	put_bigints(args, n, ids);
	put_bigints(args, n, claims);
	put_texts(args, n, names, sizeof(char *));
}

/* Status of the answer, and what it asked for; an item's own wish counts more than the request's. */
static void
put_answers(Args *args, int n, const QueueOutcome *outcomes)
{
	Datum *statuses = palloc(sizeof(Datum) * n);
	Datum *delays = palloc(sizeof(Datum) * n);
	bool  *untold = palloc(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		long delay =
			outcomes[i].outcome.retry_after_s > 0 ? outcomes[i].outcome.retry_after_s : outcomes[i].retry_after_s;

		statuses[i] = Int32GetDatum(outcomes[i].http_status);
		delays[i] = Float8GetDatum((float8) delay);
		untold[i] = delay < 0;
	}
	put_ints(args, n, statuses);
	put_array(args, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, n, delays, untold);
}

bool
queue_is_free(const pg_uuid_t *connection_id, int64 run_id)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.is_free($1, $2)",
		.types = {UUIDOID, INT8OID},
		.result = {BOOLOID},
	};
	Args args = {0};

	put_uuid(&args, connection_id);
	put_bigint(&args, run_id);
	return take_bool(&call, &args);
}

void
queue_settle(const pg_uuid_t *connection_id, int64 run_id, int n, const QueueOutcome *outcomes)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		.types = {UUIDOID, INT8OID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
				  TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, FLOAT8ARRAYOID},
		.result = {VOIDOID},
	};
	const size_t		  stride = sizeof(QueueOutcome);
	const AdapterOutcome *first;
	Args				  args = {0};

	if (n == 0)
		return;
	first = &outcomes->outcome;
	put_uuid(&args, connection_id);
	put_bigint(&args, run_id);
	put_outcomes(&args, n, outcomes);
	put_texts(&args, n, &first->operation, stride);
	put_texts(&args, n, &first->external_id, stride);
	put_texts(&args, n, &first->external_table, stride);
	put_texts(&args, n, &first->external_number, stride);
	put_texts(&args, n, &first->error_class, stride);
	put_texts(&args, n, &first->message, stride);
	put_texts(&args, n, &first->not_taken, stride);
	put_texts(&args, n, &first->excerpt, stride);
	put_answers(&args, n, outcomes);
	run_void(&call, &args);
}

/* ----------------------------------------------------------------
 * Look-ups
 * ----------------------------------------------------------------
 */

int
queue_claim_lookups(const pg_uuid_t *connection_id, int max_lookups, int lease_seconds, AdapterLookup **lookups,
					int64 *run_id)
{
	static Call call = {
		.sql = "SELECT lookup_id, run_id, generation, kind, target, keys, fields, documents"
			   " FROM pgsync_itsm.claim_lookups($1, $2, $3)",
		.types = {UUIDOID, INT4OID, INT4OID},
		.result = {INT8OID, INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
	};
	Args args = {0};
	int	 ndocuments;
	int	 n;

	put_uuid(&args, connection_id);
	put_int(&args, max_lookups);
	put_int(&args, lease_seconds);
	n = run_call(&call, &args);
	*run_id = n > 0 ? get_bigint(0, 2) : 0;
	*lookups = palloc0(sizeof(AdapterLookup) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		AdapterLookup *lookup = &(*lookups)[i];

		lookup->lookup_id = get_bigint(i, 1);
		lookup->generation = get_int(i, 3);
		lookup->kind = get_text(i, 4);
		lookup->target = get_text(i, 5);
		lookup->keys = get_texts(i, 6, &lookup->nkeys);
		lookup->fields = get_texts(i, 7, &lookup->nfields);
		lookup->documents = get_texts(i, 8, &ndocuments);
		if (ndocuments != lookup->nkeys)
			lookup->documents = NULL;
	}
	done_rows();
	return n;
}

static void
put_lookups(Args *args, int n, const AdapterLookup *lookups, const AdapterLookupResult *result)
{
	Datum		*ids = palloc(sizeof(Datum) * n);
	Datum		*generations = palloc(sizeof(Datum) * n);
	const char **names = palloc(sizeof(char *) * n);

	for (int i = 0; i < n; i++)
	{
		ids[i] = Int64GetDatum(lookups[i].lookup_id);
		generations[i] = Int32GetDatum(lookups[i].generation);
		names[i] = outcome_name(result->kinds[i]);
	}
	put_bigints(args, n, ids);
	put_ints(args, n, generations);
	put_texts(args, n, names, sizeof(char *));
	put_texts(args, n, result->error_classes, sizeof(char *));
	put_texts(args, n, result->messages, sizeof(char *));
}

static void
put_rows(Args *args, const AdapterLookup *lookups, int nlookups, int n, const AdapterLookupRow *rows)
{
	const size_t stride = sizeof(AdapterLookupRow);
	Datum		*ids = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		if (rows[i].lookup < 0 || rows[i].lookup >= nlookups)
			elog(ERROR, "answer to look-up %d of %d", rows[i].lookup, nlookups);
		ids[i] = Int64GetDatum(lookups[rows[i].lookup].lookup_id);
	}
	put_bigints(args, n, ids);
	put_texts(args, n, n ? &rows->key : NULL, stride);
	put_texts(args, n, n ? &rows->external_id : NULL, stride);
	put_texts(args, n, n ? &rows->external_table : NULL, stride);
	put_texts(args, n, n ? &rows->label : NULL, stride);
	put_texts(args, n, n ? &rows->attrs : NULL, stride);
}

void
queue_settle_lookups(const pg_uuid_t *connection_id, int nlookups, const AdapterLookup *lookups,
					 const AdapterLookupResult *result, long retry_after_s)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.settle_lookups($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
		.types = {UUIDOID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
				  TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, FLOAT8OID},
		.result = {VOIDOID},
	};
	Args args = {0};

	if (nlookups == 0)
		return;
	put_uuid(&args, connection_id);
	put_lookups(&args, nlookups, lookups, result);
	put_rows(&args, lookups, nlookups, result->nrows, result->rows);
	put_seconds(&args, retry_after_s);
	run_void(&call, &args);
}

/* ----------------------------------------------------------------
 * Plans
 * ----------------------------------------------------------------
 */

int64
queue_next_plan(bool slow, int64 after)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.next_plan($1, $2)",
		.types = {BOOLOID, INT8OID},
		.result = {INT8OID},
	};
	Args  args = {0};
	int64 run_id;

	put_bool(&args, slow);
	put_bigint(&args, after);
	run_id = run_call(&call, &args) > 0 ? get_bigint(0, 1) : 0;
	done_rows();
	return run_id;
}

QueuePlan
queue_plan_step(int64 run_id, bool hasty)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.plan_step($1, $2)",
		.types = {INT8OID, BOOLOID},
		.result = {TEXTOID},
	};
	Args		args = {0};
	const char *answer;

	put_bigint(&args, run_id);
	put_bool(&args, hasty);
	answer = run_call(&call, &args) > 0 ? get_server_text(0, 1) : NULL;
	done_rows();
	if (answer && strcmp(answer, "more") == 0)
		return QUEUE_PLAN_MORE;
	if (answer && strcmp(answer, "wait") == 0)
		return QUEUE_PLAN_WAITS;
	if (answer && strcmp(answer, "busy") == 0)
		return QUEUE_PLAN_BUSY;
	if (answer && strcmp(answer, "done") == 0)
		return QUEUE_PLAN_DONE;
	elog(ERROR, "unknown state \"%s\" of a plan", answer ? answer : "NULL");
}

void
queue_move_plan(int64 run_id, bool slow)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.move_plan($1, $2)",
		.types = {INT8OID, BOOLOID},
		.result = {VOIDOID},
	};
	Args args = {0};

	put_bigint(&args, run_id);
	put_bool(&args, slow);
	run_void(&call, &args);
}

TimestampTz
queue_oldest_change(void)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.oldest_change()",
		.result = {TIMESTAMPTZOID},
	};
	Args		args = {0};
	TimestampTz at = run_call(&call, &args) > 0 ? get_bigint(0, 1) : 0;

	done_rows();
	return at;
}

bool
queue_fail_run(int64 run_id, const char *sqlstate, const char *message, const char *hint)
{
	static Call call = {
		.sql = "SELECT pgsync_itsm.fail_free_run($1, $2, $3, $4)",
		.types = {INT8OID, TEXTOID, TEXTOID, TEXTOID},
		.result = {BOOLOID},
	};
	Args args = {0};

	put_bigint(&args, run_id);
	put_text(&args, sqlstate);
	put_text(&args, message);
	put_text(&args, hint);
	return take_bool(&call, &args);
}
