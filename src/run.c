/*
 * run.c
 *	  From claimed items to requests, from answers to outcomes.
 *
 * Words: a *transfer* is one request from its claim to its settlement; it owns
 * a memory context, and in it everything that was made for it.  A *leftover*
 * is an item that was claimed but did not fit into the request.
 *
 * What a remote does, or a connection lacks, is an outcome, never an ERROR.
 * An ERROR here ends the worker; claims were committed before, with their
 * attempts counted, so another one goes on.
 *
 * Must not: wait, call SQL except through queue.c, know a platform's protocol.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "adapter.h"
#include "connection.h"
#include "http.h"
#include "oauth.h"
#include "pace.h"
#include "pgsync_itsm.h"
#include "queue.h"
#include "run.h"

/* A request ends so long before its claim does. */
#define LEASE_MARGIN_MS 10000
#define MIN_TIMEOUT_MS 5000

typedef enum TransferKind
{
	TRANSFER_TOKEN,
	TRANSFER_LOOKUP,
	TRANSFER_WRITE
} TransferKind;

typedef struct Transfer
{
	dlist_node			node;
	MemoryContext		context;
	TransferKind		kind;
	Connection		   *conn;
	ConnectionSettings *settings;
	int					credentials; /* number and token it was sent with */
	int					token;
	int64				run_id;
	QueueBatch			batch; /* of a write */
	bool				repeatable;
	int					n;
	AdapterItem		   *items;
	AdapterLookup	   *lookups;
	AdapterRequest		request;
	HttpRequest		   *token_request; /* instead of the former */
	bool				leftovers;	   /* not given back yet */
	HttpTransfer	   *http;
	/* the answer */
	int					status; /* 0: none yet, or none at all */
	ResponseVerdict		verdict;
	OauthOutcome		granted;
	AdapterOutcome	   *outcomes;
	AdapterLookupResult found;
	const char		   *error_class;
	const char		   *message;
} Transfer;

struct Runner
{
	MemoryContext context;
	HttpEngine	 *engine;
	Connections	  connections;
	dlist_head	  claimed; /* committed, to be sent */
	dlist_head	  flying;
	dlist_head	  answered; /* to be settled */
	int			  in_flight;
	TimestampTz	  resume_at;
};

Runner *
run_create(HttpEngine *engine)
{
	Runner *runner = palloc0(sizeof(Runner));

	runner->context = CurrentMemoryContext;
	runner->engine = engine;
	connection_init(&runner->connections);
	dlist_init(&runner->claimed);
	dlist_init(&runner->flying);
	dlist_init(&runner->answered);
	runner->resume_at = DT_NOEND;
	return runner;
}

int
run_in_flight(const Runner *runner)
{
	return runner->in_flight;
}

TimestampTz
run_resume_at(const Runner *runner)
{
	return runner->resume_at;
}

/* ----------------------------------------------------------------
 * Transfers
 * ----------------------------------------------------------------
 */

static Transfer *
new_transfer(Runner *runner, Connection *conn, TransferKind kind)
{
	MemoryContext context = AllocSetContextCreate(runner->context, "pgsync_itsm transfer", ALLOCSET_DEFAULT_SIZES);
	Transfer	 *transfer = MemoryContextAllocZero(context, sizeof(Transfer));

	transfer->context = context;
	transfer->kind = kind;
	transfer->conn = conn;
	transfer->settings = connection_hold_settings(conn);
	conn->transfers++;
	return transfer;
}

/* It must be in no list any more. */
static void
free_transfer(Transfer *transfer)
{
	if (transfer->http)
		http_transfer_free(transfer->http);
	connection_release_settings(transfer->settings);
	transfer->conn->transfers--;
	MemoryContextDelete(transfer->context);
}

/* Claimed: it will go out after commit and counts from now. */
static void
enlist(Runner *runner, Transfer *transfer)
{
	pace_sent(&transfer->conn->pace, GetCurrentTimestamp());
	dlist_push_tail(&runner->claimed, &transfer->node);
}

/* ----------------------------------------------------------------
 * Claim
 * ----------------------------------------------------------------
 */

static bool
claim_lookups(Runner *runner, Connection *conn)
{
	Transfer	 *transfer = new_transfer(runner, conn, TRANSFER_LOOKUP);
	MemoryContext old = MemoryContextSwitchTo(transfer->context);
	int			  max = Max(conn->adapter->max_lookups(&conn->settings->conn), 1);

	transfer->n = queue_claim_lookups(&conn->id, max, pgsync_itsm_lease, &transfer->lookups, &transfer->run_id);
	MemoryContextSwitchTo(old);
	if (transfer->n == 0)
	{
		free_transfer(transfer);
		return false;
	}
	enlist(runner, transfer);
	return true;
}

static bool
limit_is_for(const ConnectionLimit *limit, const QueueBatch *batch)
{
	return limit->max > 0 && limit->run_id == batch->run_id && strcmp(limit->step, batch->step) == 0;
}

static int
items_per_request(Connection *conn, const QueueBatch *batch)
{
	AdapterLane lane;
	int			max;

	conn->adapter->lane(&conn->settings->conn, batch->entity_type, batch->action, batch->in_doubt, &lane);
	max = lane.max_items;
	if (limit_is_for(&conn->limit, batch))
		max = Min(max, conn->limit.max);
	return Max(max, 1);
}

static bool
claim_items(Runner *runner, Connection *conn)
{
	Transfer	 *transfer = new_transfer(runner, conn, TRANSFER_WRITE);
	MemoryContext old = MemoryContextSwitchTo(transfer->context);
	QueueBatch	 *batch = &transfer->batch;

	if (queue_next_batch(&conn->id, batch))
	{
		transfer->run_id = batch->run_id;
		transfer->repeatable = conn->adapter->idempotent(&conn->settings->conn, batch->entity_type, batch->action);
		transfer->n = queue_claim(&conn->id, batch, items_per_request(conn, batch), pgsync_itsm_lease,
								  transfer->repeatable, &transfer->items);
	}
	MemoryContextSwitchTo(old);
	if (transfer->n == 0)
	{
		free_transfer(transfer);
		return false;
	}
	enlist(runner, transfer);
	return true;
}

/* Nothing is claimed before there is a token; false if there is none yet. */
static bool
have_token(Runner *runner, Connection *conn)
{
	TimestampTz			   now = GetCurrentTimestamp();
	ConnectionCredentials *credentials = &conn->credentials;

	if (oauth_needs_token(credentials->state, now) && pace_may_send(&conn->pace, now))
	{
		Transfer	 *transfer = new_transfer(runner, conn, TRANSFER_TOKEN);
		MemoryContext old = MemoryContextSwitchTo(transfer->context);

		/* Written here, so that a second one is not asked for; sent after commit. */
		transfer->token_request = palloc0(sizeof(HttpRequest));
		oauth_token_request(credentials->state, transfer->token_request);
		transfer->credentials = credentials->number;
		MemoryContextSwitchTo(old);
		enlist(runner, transfer);
	}
	return oauth_ready(credentials->state, now);
}

/* The earliest time at which a pause ends that holds something back. */
static void
note_pause(Runner *runner, const Connection *conn)
{
	TimestampTz now = GetCurrentTimestamp();
	long		ms = pace_wait_ms(&conn->pace, now);

	if (ms > 0)
		runner->resume_at = Min(runner->resume_at, TimestampTzPlusMilliseconds(now, ms));
}

static void
claim_for(Runner *runner, const QueueTurn *turn)
{
	Connection *conn = connection_get(&runner->connections, &turn->connection_id);
	bool		ready;

	if (conn == NULL)
		return;
	ready = have_token(runner, conn);
	while (ready && pace_may_send(&conn->pace, GetCurrentTimestamp()))
	{
		CHECK_FOR_INTERRUPTS();
		ready = turn->what == QUEUE_LOOKUP ? claim_lookups(runner, conn) : claim_items(runner, conn);
	}
	note_pause(runner, conn);
}

void
run_claim(Runner *runner, const QueueTurn *turns, int nturns)
{
	runner->resume_at = DT_NOEND;
	for (int i = 0; i < nturns; i++)
		if (turns[i].what == QUEUE_LOOKUP || turns[i].what == QUEUE_WRITE)
			claim_for(runner, &turns[i]);
	connection_forget(&runner->connections);
}

/* ----------------------------------------------------------------
 * Send
 * ----------------------------------------------------------------
 */

static void
build(Transfer *transfer)
{
	const Adapter			*adapter = transfer->conn->adapter;
	const AdapterConnection *conn = &transfer->settings->conn;
	AdapterRequest			*request = &transfer->request;

	if (transfer->kind == TRANSFER_LOOKUP)
		adapter->build_lookup(conn, transfer->lookups, transfer->n, request);
	else
		adapter->build(conn, transfer->items, transfer->n, request);
	if (request->nused < 1 || request->nused > transfer->n)
		elog(ERROR, "the adapter used %d of %d", request->nused, transfer->n);
	transfer->leftovers = request->nused < transfer->n;
}

static int
timeout_for(const AdapterRequest *request)
{
	int timeout = request->timeout_ms > 0 ? request->timeout_ms : pgsync_itsm_request_timeout;

	return Max(Min(timeout, pgsync_itsm_lease * 1000 - LEASE_MARGIN_MS), MIN_TIMEOUT_MS);
}

/* The request for what was built, with what proves who we are. */
static void
write_request(Transfer *transfer, HttpRequest *http)
{
	Connection	   *conn = transfer->conn;
	AdapterRequest *request = &transfer->request;

	http_request_init(http, request->method, psprintf("%s%s", conn->url, request->path));
	http->content_type = request->content_type;
	http->body = request->body;
	http->body_len = request->body_len;
	http->once = request->writes && !transfer->repeatable;
	http->timeout_ms = timeout_for(request);
	oauth_authorize(conn->credentials.state, http);
	transfer->credentials = conn->credentials.number;
	transfer->token = conn->credentials.token;
}

static void
submit(Runner *runner, Transfer *transfer, HttpRequest *http)
{
	http->owner = transfer;
	transfer->http = http_submit(runner->engine, http);
	http_request_clear(http);
	runner->in_flight++;
	dlist_push_tail(&runner->flying, &transfer->node);
}

static void
send_one(Runner *runner, Transfer *transfer)
{
	HttpRequest http;

	if (transfer->kind == TRANSFER_TOKEN)
	{
		submit(runner, transfer, transfer->token_request);
		return;
	}
	build(transfer);
	write_request(transfer, &http);
	submit(runner, transfer, &http);
}

void
run_send(Runner *runner)
{
	MemoryContext old = CurrentMemoryContext;

	while (!dlist_is_empty(&runner->claimed))
	{
		Transfer *transfer = dlist_container(Transfer, node, dlist_pop_head_node(&runner->claimed));

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(transfer->context);
		send_one(runner, transfer);
	}
	MemoryContextSwitchTo(old);
}

bool
run_has_leftovers(const Runner *runner)
{
	dlist_iter iter;

	dlist_foreach (iter, (dlist_head *) &runner->flying)
		if (dlist_container(Transfer, node, iter.cur)->leftovers)
			return true;
	return false;
}

/* ----------------------------------------------------------------
 * Collect
 * ----------------------------------------------------------------
 */

static void
read_token(Transfer *transfer, const HttpResult *result)
{
	ConnectionCredentials *credentials = &transfer->conn->credentials;
	char				  *error = NULL;
	char				  *hint = NULL;

	/* The credentials were replaced meanwhile: the answer is nobody's. */
	if (credentials->number != transfer->credentials)
	{
		transfer->granted = OAUTH_AGAIN;
		return;
	}
	transfer->granted = oauth_token_response(credentials->state, result, &error, &hint);
	transfer->error_class = result->error_class ? result->error_class : psprintf("TOKEN_%d", result->status);
	if (error && hint)
		transfer->message = psprintf("%s (%s)", error, hint);
	else
		transfer->message = error ? error : "no token was given";
}

static void
fill_response(AdapterResponse *response, const HttpResult *result)
{
	response->status = result->status;
	response->transport_class = result->error_class;
	response->transport_message = result->message;
	response->content_type = result->content_type;
	response->body = result->body;
	response->body_len = result->body_len;
	response->retry_after_s = result->retry_after_s;
	response->rate_headers = result->rate_headers;
}

static void
prepare_found(AdapterLookupResult *found, int n)
{
	found->kinds = palloc0(sizeof(OutcomeKind) * n);
	found->error_classes = palloc0(sizeof(char *) * n);
	found->messages = palloc0(sizeof(char *) * n);
	found->nrows = 0;
	found->rows = NULL;
}

static void
read_answer(Transfer *transfer, const HttpResult *result)
{
	const Adapter			*adapter = transfer->conn->adapter;
	const AdapterConnection *conn = &transfer->settings->conn;
	AdapterResponse			 response;
	AdapterReport			 report = {0};

	transfer->outcomes = palloc0(sizeof(AdapterOutcome) * transfer->n);
	prepare_found(&transfer->found, transfer->n);
	if (result->error_class && strcmp(result->error_class, "NOT_ALLOWED") == 0)
	{
		transfer->verdict = RESPONSE_PAUSE;
		transfer->error_class = result->error_class;
		transfer->message = result->message;
		return;
	}
	fill_response(&response, result);
	if (transfer->kind == TRANSFER_LOOKUP)
		transfer->verdict =
			adapter->read_lookup(conn, transfer->lookups, &transfer->request, &response, &transfer->found, &report);
	else
		transfer->verdict =
			adapter->read(conn, transfer->items, &transfer->request, &response, transfer->outcomes, &report);
	transfer->error_class = report.error_class;
	transfer->message = report.message;
}

static void
collect(Runner *runner, Transfer *transfer)
{
	const HttpResult *result = http_result(transfer->http);
	Pace			 *pace = &transfer->conn->pace;

	runner->in_flight--;
	transfer->status = result->status;
	dlist_delete(&transfer->node);
	pace_answered(pace);
	pace_observed(pace, result->rate_limit, result->rate_reset);
	MemoryContextSwitchTo(transfer->context);
	if (transfer->kind == TRANSFER_TOKEN)
		read_token(transfer, result);
	else
		read_answer(transfer, result);
	if (transfer->error_class == NULL)
		transfer->error_class = "UNKNOWN";
	if (transfer->message == NULL)
		transfer->message = "the platform's answer was refused without a reason";
	dlist_push_tail(&runner->answered, &transfer->node);
}

bool
run_collect(Runner *runner)
{
	MemoryContext old = CurrentMemoryContext;
	HttpTransfer *http;

	while ((http = http_next_finished(runner->engine)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		collect(runner, http_owner(http));
	}
	MemoryContextSwitchTo(old);
	return !dlist_is_empty(&runner->answered);
}

/* ----------------------------------------------------------------
 * Settle
 * ----------------------------------------------------------------
 */

/* One outcome for n of a request's items from the first on. */
static void
settle_alike(Transfer *transfer, int first, int n, const AdapterOutcome *alike, long retry_after_s)
{
	AdapterOutcome	   *outcomes = palloc(sizeof(AdapterOutcome) * n);
	AdapterLookupResult found;

	prepare_found(&found, n);
	for (int i = 0; i < n; i++)
	{
		outcomes[i] = *alike;
		found.kinds[i] = alike->kind;
		found.error_classes[i] = alike->error_class;
		found.messages[i] = alike->message;
	}
	if (transfer->kind == TRANSFER_LOOKUP)
		queue_settle_lookups(&transfer->conn->id, n, transfer->lookups + first, &found, retry_after_s);
	else
		queue_settle(&transfer->conn->id, transfer->run_id, n, transfer->items + first, outcomes, transfer->status,
					 retry_after_s);
}

/* One outcome for all that travelled, for the reason that was given. */
static void
settle_all(Transfer *transfer, OutcomeKind kind, long retry_after_s)
{
	AdapterOutcome alike = {
		.kind = kind,
		.error_class = transfer->error_class,
		.message = transfer->message,
	};

	settle_alike(transfer, 0, transfer->request.nused, &alike, retry_after_s);
}

/* Gives back what did not fit; its request may still be under way. */
static void
settle_leftovers(Transfer *transfer)
{
	AdapterOutcome released = {.kind = OUTCOME_RELEASE};
	int			   used = transfer->request.nused;

	settle_alike(transfer, used, transfer->n - used, &released, -1);
	transfer->leftovers = false;
}

/* The next requests of this step take half of what this one took. */
static void
halve(Transfer *transfer)
{
	ConnectionLimit *limit = &transfer->conn->limit;

	if (transfer->kind != TRANSFER_WRITE || transfer->request.nused < 2)
		return;
	limit->run_id = transfer->run_id;
	strlcpy(limit->step, transfer->batch.step, sizeof(limit->step));
	limit->max = transfer->request.nused / 2;
}

/* An accepted request of the step: twice as much may be tried. */
static void
unhalve(Transfer *transfer)
{
	ConnectionLimit *limit = &transfer->conn->limit;

	if (transfer->kind == TRANSFER_WRITE && limit_is_for(limit, &transfer->batch) &&
		transfer->request.nused >= limit->max)
		limit->max = limit->max > 1024 ? 0 : limit->max * 2;
}

static void
settle_token(Transfer *transfer)
{
	Connection *conn = transfer->conn;
	long		retry_after_s = http_result(transfer->http)->retry_after_s;

	if (conn->credentials.number != transfer->credentials)
		return;
	switch (transfer->granted)
	{
		case OAUTH_GRANTED:
			conn->credentials.token++;
			connection_works(conn);
			break;
		case OAUTH_AGAIN:
			break;
		case OAUTH_LATER:
			connection_trouble(conn, transfer->error_class, transfer->message, retry_after_s);
			break;
		case OAUTH_REFUSED:
			connection_pause(conn, transfer->error_class, transfer->message);
			break;
	}
}

/*
 * 401.  A token that others have been refused with, too, counts once; a fresh
 * one that is refused as well means that it isn't the token.
 */
static void
settle_unauthorized(Transfer *transfer)
{
	Connection			  *conn = transfer->conn;
	ConnectionCredentials *credentials = &conn->credentials;

	settle_all(transfer, OUTCOME_RELEASE, -1);
	if (credentials->number != transfer->credentials || credentials->token != transfer->token)
		return;
	if (!credentials->renewable || ++credentials->refusals > 1)
	{
		connection_pause(conn, transfer->error_class, transfer->message);
		return;
	}
	credentials->token++;
	oauth_token_refused(credentials->state);
}

static void
settle_readable(Transfer *transfer)
{
	const HttpResult *result = http_result(transfer->http);
	Connection		 *conn = transfer->conn;
	int				  n = transfer->request.nused;

	conn->credentials.refusals = 0;
	connection_works(conn);
	unhalve(transfer);
	if (transfer->kind == TRANSFER_LOOKUP)
		queue_settle_lookups(&conn->id, n, transfer->lookups, &transfer->found, result->retry_after_s);
	else
		queue_settle(&conn->id, transfer->run_id, n, transfer->items, transfer->outcomes, result->status,
					 result->retry_after_s);
}

static void
settle_again(Transfer *transfer)
{
	const HttpResult *result = http_result(transfer->http);

	connection_trouble(transfer->conn, transfer->error_class, transfer->message, result->retry_after_s);
	if (result->error_class &&
		(strcmp(result->error_class, "TIMEOUT") == 0 || strcmp(result->error_class, "TOO_LARGE") == 0))
		halve(transfer);
	settle_all(transfer, OUTCOME_RETRY, result->retry_after_s);
}

static void
settle_answer(Transfer *transfer)
{
	switch (transfer->verdict)
	{
		case RESPONSE_READABLE:
			settle_readable(transfer);
			break;
		case RESPONSE_RETRY:
		case RESPONSE_THROTTLED:
		case RESPONSE_SPLIT:
			settle_again(transfer);
			break;
		case RESPONSE_REAUTHENTICATE:
			settle_unauthorized(transfer);
			break;
		case RESPONSE_PAUSE:
			settle_all(transfer, OUTCOME_RELEASE, -1);
			if (transfer->conn->credentials.number == transfer->credentials)
				connection_pause(transfer->conn, transfer->error_class, transfer->message);
			break;
		case RESPONSE_DEAD:
			/* One bad item spoils them all: halve, until it stands alone. */
			halve(transfer);
			settle_all(transfer,
					   transfer->request.nused > 1 && transfer->kind == TRANSFER_WRITE ? OUTCOME_RELEASE : OUTCOME_DEAD,
					   -1);
			break;
	}
}

static void
settle(Transfer *transfer)
{
	const HttpResult *result = http_result(transfer->http);

	queue_count_request(&transfer->conn->id, transfer->run_id, transfer->batch.step, transfer->request.writes,
						transfer->request.subrequests, result->bytes_sent, result->bytes_received);
	if (transfer->leftovers)
		settle_leftovers(transfer);
	if (transfer->kind == TRANSFER_TOKEN)
		settle_token(transfer);
	else
		settle_answer(transfer);
}

void
run_settle(Runner *runner)
{
	dlist_iter iter;

	dlist_foreach (iter, &runner->flying)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->leftovers)
			settle_leftovers(transfer);
	}
	while (!dlist_is_empty(&runner->answered))
	{
		Transfer *transfer = dlist_container(Transfer, node, dlist_pop_head_node(&runner->answered));

		CHECK_FOR_INTERRUPTS();
		settle(transfer);
		free_transfer(transfer);
	}
}
