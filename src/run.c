/*
 * run.c
 *	  From claimed items to requests, from answers to outcomes.
 *
 * Words: a *claim* is what one call of pgsync_itsm.claim() gave; a *transfer*
 * is one request from its claim to its settlement, and carries a row of the
 * claim's items.  A *leftover* is an item that was claimed and did not fit into
 * the request.  A transfer is *ready* while it waits for a slot: where a
 * request is one item, a few more are claimed than may be sent, so that the
 * next one goes out the moment an answer comes.  It *follows* when an adapter has
 * seen the answer and needs another one before it can say anything.
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

#include <limits.h>

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

/* An answer within this part of the time allowed lets requests grow. */
#define FAST_PART 5

/* Where a request is one item: so many for each slot are claimed to follow those in flight. */
#define AHEAD_PER_SLOT 2
#define MAX_AHEAD 128

/* Answers of such requests are settled together, unless there are so many, or one is so old. */
#define SETTLE_TOGETHER 40
#define SETTLE_WITHIN_MS 10
#define POSTPONE_MS 500 /* before what somebody holds the row of is tried again */

/* Where what came back from elsewhere waits, such as a retry that is due, is looked at so often. */
#define FRONT_EVERY_MS 1000

/* A question takes one call as a rule, and a few where its keys are long or odd. */
#define CALLS_PER_LOOKUP 8

/* After a request was too much, so many must succeed before they grow again. */
#define SUCCESSES_TO_GROW 4

typedef enum TransferKind
{
	TRANSFER_TOKEN,
	TRANSFER_PROBE,
	TRANSFER_LOOKUP,
	TRANSFER_WRITE
} TransferKind;

/* Items that were claimed together; ends with the last transfer that carries some. */
typedef struct Claim
{
	MemoryContext context;
	int			  refs;
	int64		  run_id;
	int			  n;
	AdapterItem	 *items;
	const char	**steps;
	bool		  repeatable;
	const char	 *api;
} Claim;

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
	Claim			   *claim; /* of a write */
	int					first; /* of the claim's items */
	int					n;
	int					leftovers; /* behind them, not given back yet */
	AdapterItem		   *items;
	AdapterLookup	   *lookups;
	const char		   *api;
	AdapterRequest		request;
	HttpRequest		   *token_request; /* instead of the former */
	HttpTransfer	   *http;
	PaceTicket			ticket;
	bool				follows; /* the request is made already */
	bool				wrote;	 /* one before it did */
	QueueCount			sent;	 /* what was answered so far */
	/* the answer */
	int					status; /* 0: none yet, or none at all */
	ResponseVerdict		verdict;
	OauthOutcome		granted;
	AdapterOutcome	   *outcomes;
	AdapterLookupResult found;
	AdapterReport		report;
} Transfer;

typedef enum ClaimResult
{
	CLAIM_DONE,
	CLAIM_NO_ROOM, /* nothing more may be sent now */
	CLAIM_NOTHING  /* there is nothing of it */
} ClaimResult;

/* What a connection has to do, as pgsync_itsm.turn() said last. */
typedef struct Work
{
	pg_uuid_t connection_id;
	QueueWork what;
} Work;

/* What is to be written down of one run, in the transaction at hand. */
typedef struct Tally
{
	Connection	 *conn;
	int64		  run_id;
	int			  noutcomes;
	int			  room;
	QueueOutcome *outcomes;
	List		 *counts; /* of QueueCount */
} Tally;

struct Runner
{
	MemoryContext context;
	HttpEngine	 *engine;
	Connections	  connections;
	dlist_head	  claimed; /* committed, to be sent */
	dlist_head	  flying;
	dlist_head	  answered; /* to be settled */
	int			  nanswered;
	TimestampTz	  answered_at; /* the first of them */
	dlist_head	  postponed;   /* somebody holds the row of their run or connection */
	TimestampTz	  postponed_to;
	bool		  urgent; /* somebody waits for one of them */
	int			  in_flight;
	TimestampTz	  resume_at;
	int			  nwork;
	int			  work_room;
	Work		 *work;
	bool		  idle_answer; /* one came for a connection that had nothing else to do */
	List		 *tallies;	   /* while run_settle() is at it */
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
	dlist_init(&runner->postponed);
	runner->resume_at = DT_NOEND;
	return runner;
}

int
run_in_flight(const Runner *runner)
{
	return runner->in_flight;
}

static bool
has_postponed(const Runner *runner)
{
	return !dlist_is_empty((dlist_head *) &runner->postponed);
}

bool
run_holds_claims(const Runner *runner)
{
	dlist_iter iter;

	dlist_foreach (iter, (dlist_head *) &runner->connections.list)
	{
		Connection *conn = dlist_container(Connection, node, iter.cur);

		if (conn->nready > 0 || !dlist_is_empty(&conn->following))
			return true;
	}
	return runner->in_flight > 0 || runner->nanswered > 0 || has_postponed(runner);
}

TimestampTz
run_resume_at(const Runner *runner)
{
	return runner->resume_at;
}

/* ----------------------------------------------------------------
 * Claims and transfers
 * ----------------------------------------------------------------
 */

static void
release_claim(Claim *claim)
{
	if (claim && --claim->refs == 0)
		MemoryContextDelete(claim->context);
}

static Transfer *
new_transfer(Runner *runner, Connection *conn, TransferKind kind)
{
	MemoryContext context = AllocSetContextCreate(runner->context, "pgsync_itsm transfer", ALLOCSET_START_SMALL_SIZES);
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
	release_claim(transfer->claim);
	connection_release_settings(transfer->settings);
	transfer->conn->transfers--;
	MemoryContextDelete(transfer->context);
}

/* It will go out after commit, and counts from now. */
static void
enlist(Runner *runner, Transfer *transfer, int subs)
{
	pace_sent(&transfer->conn->pace, transfer->api, subs, GetCurrentTimestamp(), &transfer->ticket);
	dlist_push_tail(&runner->claimed, &transfer->node);
}

/* A request that carries n of a claim's items. */
static Transfer *
new_write(Runner *runner, Connection *conn, Claim *claim, int first, int n)
{
	Transfer *transfer = new_transfer(runner, conn, TRANSFER_WRITE);

	claim->refs++;
	transfer->claim = claim;
	transfer->run_id = claim->run_id;
	transfer->first = first;
	transfer->n = n;
	transfer->items = claim->items + first;
	transfer->api = claim->api;
	return transfer;
}

/* ----------------------------------------------------------------
 * Size of requests
 * ----------------------------------------------------------------
 */

static ConnectionSize *
size_for(Connection *conn, const char *api)
{
	ConnectionSize *size;

	for (int i = 0; i < conn->nsizes; i++)
		if (strcmp(conn->sizes[i].api, api) == 0)
			return &conn->sizes[i];
	if (conn->nsizes == CONNECTION_MAX_SIZES)
		return &conn->sizes[CONNECTION_MAX_SIZES - 1];
	size = &conn->sizes[conn->nsizes++];
	memset(size, 0, sizeof(*size));
	strlcpy(size->api, api, sizeof(size->api));
	return size;
}

/* Look-ups share an API with writes, not their size. */
static const char *
size_name(const Transfer *transfer)
{
	return transfer->kind == TRANSFER_LOOKUP ? "look-up" : transfer->api;
}

static int
at_most(Connection *conn, const char *name, int max)
{
	const ConnectionSize *size = size_for(conn, name);

	return Max(size->max > 0 ? Min(max, size->max) : max, 1);
}

/* The next requests of this kind take half of what this one took. */
static void
halve(Transfer *transfer, int successes)
{
	ConnectionSize *size = size_for(transfer->conn, size_name(transfer));

	if (transfer->request.nused < 2)
		return;
	size->max = transfer->request.nused / 2;
	size->successes = successes;
}

/* An accepted request that was full, and answered fast: twice as much may be tried. */
static void
grow(Transfer *transfer)
{
	ConnectionSize *size = size_for(transfer->conn, size_name(transfer));
	int64			allowed_us = (int64) Max(transfer->request.timeout_ms, MIN_TIMEOUT_MS) * 1000;

	if (size->max == 0 || transfer->request.nused < size->max ||
		http_result(transfer->http)->elapsed_us > allowed_us / FAST_PART || --size->successes > 0)
		return;
	size->max = size->max > 10000 ? 0 : size->max * 2;
	size->successes = 1;
}

/* ----------------------------------------------------------------
 * Claim
 * ----------------------------------------------------------------
 */

/* *api is set to the one that leaves no room. */
static ClaimResult
claim_lookups(Runner *runner, Connection *conn, const char **api)
{
	const Adapter *adapter = conn->adapter;
	TimestampTz	   now = GetCurrentTimestamp();
	int			   inside = pace_room_inside(&conn->pace, adapter->lookup_api, now);
	Transfer	  *transfer;
	MemoryContext  old;

	/* What comes next is not known yet: there must be room for either kind. */
	if (pace_room(&conn->pace, adapter->lookup_api, now) < 1 || inside < 1)
		return CLAIM_NO_ROOM;
	if (adapter->dry_run_api != NULL && pace_room(&conn->pace, adapter->dry_run_api, now) < 1)
	{
		*api = adapter->dry_run_api;
		return CLAIM_NO_ROOM;
	}
	transfer = new_transfer(runner, conn, TRANSFER_LOOKUP);
	old = MemoryContextSwitchTo(transfer->context);
	transfer->api = adapter->lookup_api;
	transfer->n = queue_claim_lookups(
		&conn->id, Min(at_most(conn, "look-up", adapter->max_lookups(&conn->settings->conn)), inside),
		pgsync_itsm_lease, &transfer->lookups, &transfer->run_id);
	MemoryContextSwitchTo(old);
	if (transfer->n == 0)
	{
		free_transfer(transfer);
		return CLAIM_NOTHING;
	}
	if (strcmp(transfer->lookups[0].kind, "dry_run") == 0 && adapter->dry_run_api != NULL)
	{
		transfer->api = adapter->dry_run_api;
		enlist(runner, transfer, 0);
	}
	else
		/* A question may take several calls: as many as are left are set aside. */
		enlist(runner, transfer, inside == INT_MAX ? transfer->n * CALLS_PER_LOOKUP : inside);
	return CLAIM_DONE;
}

static bool
lane_is_repeatable(Connection *conn, const AdapterLane *lane)
{
	for (int i = 0; i < lane->nkinds; i++)
		if (!conn->adapter->idempotent(&conn->settings->conn, lane->entity_types[i], lane->actions[i]))
			return false;
	return true;
}

/* Claims into a context of its own; NULL if there was nothing. */
static Claim *
claim_lane(Runner *runner, Connection *conn, const QueueBatch *batch, const AdapterLane *lane, int max_items)
{
	MemoryContext context = AllocSetContextCreate(runner->context, "pgsync_itsm claim", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Claim		 *claim = palloc0(sizeof(Claim));
	QueueClaim	  wanted = {
		   .lane = lane,
		   .run_id = batch->run_id,
		   .in_doubt = batch->in_doubt,
		   .bundled = conn->bundled,
		   .repeatable = lane_is_repeatable(conn, lane),
		   .max_records = Min(lane->max_records > 1 ? lane->max_records : max_items, max_items),
		   .max_items = max_items,
		   .lease_seconds = pgsync_itsm_lease,
		   .after = batch->claimed_to,
	   };

	claim->context = context;
	claim->run_id = batch->run_id;
	claim->repeatable = wanted.repeatable;
	claim->api = lane->api;
	claim->n = queue_claim(&conn->id, &wanted, &claim->items, &claim->steps);
	MemoryContextSwitchTo(old);
	if (claim->n > 0)
		return claim;
	MemoryContextDelete(context);
	return NULL;
}

/* Where a request is one item: as many requests as there are slots, and as many again to follow. */
static void
spread_claim(Runner *runner, Connection *conn, Claim *claim)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < claim->n; i++)
	{
		Transfer *transfer = new_write(runner, conn, claim, i, 1);

		if (pace_room(&conn->pace, claim->api, now) > 0)
			enlist(runner, transfer, 0);
		else
		{
			dlist_push_tail(&conn->ready, &transfer->node);
			conn->nready++;
		}
	}
}

static bool
may_claim_ahead(const Connection *conn)
{
	for (int i = 0; i < conn->pace.nrules; i++)
		if (conn->pace.rules[i].limit >= 0)
			return false;
	return conn->pace.breaker == PACE_CLOSED;
}

/* Half a store is not worth a claim. */
static int
room_ahead(const Connection *conn)
{
	int store = Min((int) conn->pace.slots * AHEAD_PER_SLOT, MAX_AHEAD);
	int room = store - conn->nready;

	return room * 2 >= store ? room : 0;
}

static ClaimResult
claim_singles(Runner *runner, Connection *conn, const QueueBatch *batch, const AdapterLane *lane)
{
	int	   room = pace_room(&conn->pace, lane->api, GetCurrentTimestamp());
	int	   ahead = may_claim_ahead(conn) ? room_ahead(conn) : 0;
	Claim *claim;

	if (room + ahead < 1)
		return CLAIM_NO_ROOM;
	claim = claim_lane(runner, conn, batch, lane, room + Max(ahead, 0));
	if (claim == NULL)
		return CLAIM_NOTHING;
	conn->batch.claimed_to = claim->items[claim->n - 1].item_id;
	spread_claim(runner, conn, claim);
	return CLAIM_DONE;
}

static ClaimResult
claim_many(Runner *runner, Connection *conn, const QueueBatch *batch, const AdapterLane *lane)
{
	TimestampTz now = GetCurrentTimestamp();
	int			inside = pace_room_inside(&conn->pace, lane->api, now);
	Claim	   *claim;

	if (pace_room(&conn->pace, lane->api, now) < 1 || inside < 1)
		return CLAIM_NO_ROOM;
	claim = claim_lane(runner, conn, batch, lane, Min(at_most(conn, lane->api, lane->max_items), inside));
	if (claim == NULL)
		return CLAIM_NOTHING;
	enlist(runner, new_write(runner, conn, claim, 0, claim->n), strcmp(lane->api, "batch") == 0 ? claim->n : 0);
	conn->batch.run_id = 0;
	conn->claimed_to = claim->items[claim->n - 1].item_id;
	return CLAIM_DONE;
}

/* Why nothing could be claimed for this API, for those who look on. */
static void
note_wait(Connection *conn, const char *api)
{
	conn->waits = pace_may_send(&conn->pace, api, GetCurrentTimestamp(), &conn->waits_until);
}

static ClaimResult
claim_batch(Runner *runner, Connection *conn, const QueueBatch *batch, const char **api)
{
	AdapterLane lane;

	conn->adapter->lane(&conn->settings->conn, batch->entity_type, batch->action, batch->in_doubt, &lane);
	*api = lane.api;
	if (lane.max_items == 1)
		return claim_singles(runner, conn, batch, &lane);
	return claim_many(runner, conn, batch, &lane);
}

/*
 * What can be claimed next is behind what is on the wire, as a rule: it is
 * known when something came back, and looked for seldom otherwise.
 */
static bool
next_batch(Connection *conn)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		front =
		conn->claimed_to == 0 && (conn->front || TimestampDifferenceExceeds(conn->front_at, now, FRONT_EVERY_MS));
	bool found = queue_next_batch(&conn->id, conn->bundled, conn->claimed_to, front, &conn->batch);

	if (front)
	{
		conn->front = found && conn->batch.in_front;
		conn->front_at = now;
	}
	return found;
}

/*
 * Where a request is one item, there is more of what was claimed last, as a
 * rule: what comes next is asked only when that is at an end, or after a look
 * at everything there is.
 */
static ClaimResult
claim_items(Runner *runner, Connection *conn, const char **api)
{
	ClaimResult result = CLAIM_NOTHING;

	if (conn->batch.run_id != 0)
		result = claim_batch(runner, conn, &conn->batch, api);
	if (result != CLAIM_NOTHING)
		return result;
	conn->batch.run_id = 0;
	if (next_batch(conn))
	{
		result = claim_batch(runner, conn, &conn->batch, api);
		/* there was something, and nothing could be had: somebody holds the run's row */
		if (result == CLAIM_NOTHING)
			runner->resume_at = Min(runner->resume_at, GetCurrentTimestamp() + POSTPONE_MS * INT64CONST(1000));
	}
	return result;
}

static void
ask_for_token(Runner *runner, Connection *conn)
{
	Transfer	 *transfer = new_transfer(runner, conn, TRANSFER_TOKEN);
	MemoryContext old = MemoryContextSwitchTo(transfer->context);

	/* Written here, so that a second one is not asked for; sent after commit. */
	transfer->token_request = palloc0(sizeof(HttpRequest));
	oauth_token_request(conn->credentials.state, transfer->token_request);
	transfer->credentials = conn->credentials.number;
	transfer->api = "token";
	MemoryContextSwitchTo(old);
	enlist(runner, transfer, 0);
}

/* Nothing is claimed before there is a token; false if there is none yet. */
static bool
have_token(Runner *runner, Connection *conn)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;

	if (oauth_needs_token(conn->credentials.state, now) && pace_may_send(&conn->pace, "token", now, &until) == PACE_GO)
		ask_for_token(runner, conn);
	return oauth_ready(conn->credentials.state, now);
}

/* A connection that failed too often in a row is asked one harmless question before it gets anything to do. */
static void
probe(Runner *runner, Connection *conn)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!pace_probe_due(&conn->pace, now))
		return;
	pace_probe(&conn->pace);
	if (!oauth_ready(conn->credentials.state, now))
	{
		if (oauth_needs_token(conn->credentials.state, now))
			ask_for_token(runner, conn);
	}
	else
	{
		Transfer *transfer = new_transfer(runner, conn, TRANSFER_PROBE);

		transfer->api = conn->adapter->probe_api;
		enlist(runner, transfer, 0);
	}
}

/* Claims what a connection may send.  True if more could be sent than there was. */
static bool
claim_for(Runner *runner, Connection *conn, QueueWork what)
{
	const char *api = conn->adapter->lookup_api;
	ClaimResult result = CLAIM_DONE;

	if (conn->pace.breaker != PACE_CLOSED)
		probe(runner, conn);
	else if (have_token(runner, conn))
	{
		/* what was begun goes first */
		while (result == CLAIM_DONE && dlist_is_empty(&conn->following))
		{
			CHECK_FOR_INTERRUPTS();
			result = what == QUEUE_LOOKUP ? claim_lookups(runner, conn, &api) : claim_items(runner, conn, &api);
		}
	}
	note_wait(conn, api);
	if (conn->waits_until != 0)
		runner->resume_at = Min(runner->resume_at, conn->waits_until);
	connection_save_pace(conn);
	return conn->waits == PACE_GO;
}

void
run_reread_connections(Runner *runner)
{
	connection_reread(&runner->connections);
}

bool
run_claim(Runner *runner)
{
	bool hungry = runner->idle_answer;

	runner->idle_answer = false;
	runner->resume_at = DT_NOEND;
	for (int i = 0; i < runner->nwork; i++)
	{
		Connection *conn = connection_recent(&runner->connections, &runner->work[i].connection_id);

		if (conn == NULL)
			conn = connection_get(&runner->connections, &runner->work[i].connection_id);
		if (conn != NULL && claim_for(runner, conn, runner->work[i].what))
			hungry = true;
	}
	return hungry;
}

/* ----------------------------------------------------------------
 * What there is to do
 * ----------------------------------------------------------------
 */

static bool has_work(const Runner *runner, const Connection *conn);
static void settle_unsent(Runner *runner, Transfer *transfer);
static void flush_tallies(Runner *runner);

/* What was claimed for a slot and got none goes back. */
static void
give_back_ready(Runner *runner, Connection *conn, int64 run_id)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &conn->ready)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		if (run_id != 0 && transfer->run_id != run_id)
			continue;
		dlist_delete(&transfer->node);
		conn->nready--;
		settle_unsent(runner, transfer);
	}
}

/* What waits to go on, and cannot for now, is begun anew later. */
static void
give_back_following(Runner *runner, Connection *conn, int64 run_id)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &conn->following)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		if (run_id != 0 && transfer->run_id != run_id)
			continue;
		dlist_delete(&transfer->node);
		settle_unsent(runner, transfer);
	}
}

/*
 * Takes a run's transfers out of a list.  What was claimed in this very
 * transaction goes back; what is on the wire is given up, and its answers are
 * nobody's any more.
 */
static void
drop_transfers(Runner *runner, dlist_head *list, int64 run_id)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, list)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->run_id != run_id || transfer->kind == TRANSFER_TOKEN)
			continue;
		dlist_delete(&transfer->node);
		pace_answered(&transfer->conn->pace, &transfer->ticket);
		if (list == &runner->claimed)
			settle_unsent(runner, transfer);
		else
		{
			runner->in_flight--;
			free_transfer(transfer);
		}
	}
}

static void
cancel_run(Runner *runner, const QueueTurn *turn)
{
	dlist_iter iter;

	drop_transfers(runner, &runner->claimed, turn->run_id);
	dlist_foreach (iter, &runner->connections.list)
	{
		give_back_ready(runner, dlist_container(Connection, node, iter.cur), turn->run_id);
		give_back_following(runner, dlist_container(Connection, node, iter.cur), turn->run_id);
	}
	flush_tallies(runner);
	if (turn->due == 0)
		drop_transfers(runner, &runner->flying, turn->run_id);
}

static void
add_work(Runner *runner, const QueueTurn *turn)
{
	if (runner->nwork == runner->work_room)
	{
		runner->work_room = Max(runner->work_room * 2, 16);
		runner->work = runner->work ? repalloc(runner->work, sizeof(Work) * runner->work_room)
									: MemoryContextAlloc(runner->context, sizeof(Work) * runner->work_room);
	}
	runner->work[runner->nwork].connection_id = turn->connection_id;
	runner->work[runner->nwork++].what = turn->what;
}

/* A connection that was paused, or whose breaker opened, keeps nothing back. */
static void
give_back_stranded(Runner *runner)
{
	dlist_iter iter;

	dlist_foreach (iter, &runner->connections.list)
	{
		Connection *conn = dlist_container(Connection, node, iter.cur);

		if (!dlist_is_empty(&conn->ready) && (conn->stale || conn->pace.in_flight == 0 || !has_work(runner, conn) ||
											  !may_claim_ahead(conn) || conn->waits != PACE_WAIT_SLOT))
			give_back_ready(runner, conn, 0);
	}
	flush_tallies(runner);
}

void
run_take_turns(Runner *runner, const QueueTurn *turns, int nturns)
{
	dlist_iter iter;

	dlist_foreach (iter, &runner->connections.list)
	{
		Connection *conn = dlist_container(Connection, node, iter.cur);

		conn->batch.run_id = 0;
		conn->claimed_to = 0;
	}
	runner->nwork = 0;
	for (int i = 0; i < nturns; i++)
	{
		if (turns[i].what == QUEUE_LOOKUP || turns[i].what == QUEUE_WRITE)
			add_work(runner, &turns[i]);
		else if (turns[i].what == QUEUE_CANCEL)
			cancel_run(runner, &turns[i]);
	}
	give_back_stranded(runner);
	connection_forget(&runner->connections);
}

/* ----------------------------------------------------------------
 * Send
 * ----------------------------------------------------------------
 */

static void
build_first(Transfer *transfer, int n)
{
	const Adapter			*adapter = transfer->conn->adapter;
	const AdapterConnection *conn = &transfer->settings->conn;
	AdapterRequest			*request = &transfer->request;

	if (transfer->kind == TRANSFER_LOOKUP)
		adapter->build_lookup(conn, transfer->lookups, n, request);
	else
		adapter->build(conn, transfer->items, n, request);
	if (request->nused < 1 || request->nused > n)
		elog(ERROR, "the adapter used %d of %d", request->nused, n);
}

/* As many as fit, also into what a rule leaves for the calls inside. */
static void
build(Transfer *transfer)
{
	int n = transfer->n;

	build_first(transfer, n);
	while (transfer->ticket.subs > 0 && transfer->request.subrequests > transfer->ticket.subs && n > 1)
	{
		n = Max(Min(n, transfer->request.nused) / 2, 1);
		build_first(transfer, n);
	}
	pace_sent_less(&transfer->conn->pace, &transfer->ticket, transfer->request.subrequests);
	transfer->leftovers = transfer->n - transfer->request.nused;
}

static int
timeout_for(const AdapterRequest *request)
{
	/* the claim outlives the request, unless its lease is shorter than anybody would set it */
	return Min(http_request_timeout(request->timeout_ms),
			   Max(pgsync_itsm_lease * 1000 - LEASE_MARGIN_MS, MIN_TIMEOUT_MS));
}

/* Whose answer means something else if libcurl sent it twice; see own_what_was_made(). */
static bool
makes_records(const Transfer *transfer)
{
	for (int i = 0; transfer->kind == TRANSFER_WRITE && i < transfer->request.nused; i++)
		if (strcmp(transfer->items[i].action, "CREATE") == 0)
			return true;
	return false;
}

/* The request for what was built, with what proves who we are. */
static void
write_request(Transfer *transfer, HttpRequest *http)
{
	Connection	   *conn = transfer->conn;
	AdapterRequest *request = &transfer->request;

	request->timeout_ms = timeout_for(request);
	http_request_init(http, request->method, psprintf("%s%s", conn->url, request->path));
	http->content_type = request->content_type;
	http->body = request->body;
	http->body_len = request->body_len;
	http->once = request->writes && !(transfer->claim && transfer->claim->repeatable);
	http->freely = !http->once && !makes_records(transfer);
	http->timeout_ms = request->timeout_ms;
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

/* The body was copied for the wire; what it was made from is not needed twice. */
static void
drop_body(AdapterRequest *request)
{
	if (request->body)
		pfree(request->body);
	request->body = NULL;
}

static void
send_one(Runner *runner, Transfer *transfer)
{
	MemoryContext old = MemoryContextSwitchTo(transfer->context);
	HttpRequest	  http;

	if (transfer->kind == TRANSFER_TOKEN)
		submit(runner, transfer, transfer->token_request);
	else
	{
		if (transfer->kind == TRANSFER_PROBE)
			transfer->conn->adapter->build_probe(&transfer->settings->conn, &transfer->request);
		else if (!transfer->follows)
			build(transfer);
		write_request(transfer, &http);
		submit(runner, transfer, &http);
		drop_body(&transfer->request);
	}
	MemoryContextSwitchTo(old);
}

/* True if the first of a list went out. */
static bool
send_first(Runner *runner, Connection *conn, dlist_head *list)
{
	Transfer   *transfer;
	TimestampTz now = GetCurrentTimestamp();

	if (dlist_is_empty(list))
		return false;
	transfer = dlist_head_element(Transfer, node, list);
	if (conn->stale || !oauth_ready(conn->credentials.state, now) || pace_room(&conn->pace, transfer->api, now) < 1)
		return false;
	dlist_delete(&transfer->node);
	if (list == &conn->ready)
		conn->nready--;
	pace_sent(&conn->pace, transfer->api, 0, now, &transfer->ticket);
	send_one(runner, transfer);
	return true;
}

/* A slot is free: what waits for one goes out at once, and what was begun before what was not. */
static void
feed(Runner *runner, Connection *conn)
{
	while (send_first(runner, conn, &conn->following))
		;
	while (dlist_is_empty(&conn->following) && send_first(runner, conn, &conn->ready))
		;
}

void
run_send(Runner *runner)
{
	dlist_iter iter;

	dlist_foreach (iter, &runner->connections.list)
		feed(runner, dlist_container(Connection, node, iter.cur));
	while (!dlist_is_empty(&runner->claimed))
	{
		CHECK_FOR_INTERRUPTS();
		send_one(runner, dlist_container(Transfer, node, dlist_pop_head_node(&runner->claimed)));
	}
}

bool
run_has_leftovers(const Runner *runner)
{
	dlist_iter iter;

	dlist_foreach (iter, (dlist_head *) &runner->flying)
		if (dlist_container(Transfer, node, iter.cur)->leftovers > 0)
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
	AdapterReport		  *report = &transfer->report;
	char				  *error = NULL;
	char				  *hint = NULL;

	/* The credentials were replaced meanwhile: the answer is nobody's. */
	if (credentials->number != transfer->credentials)
	{
		transfer->granted = OAUTH_AGAIN;
		return;
	}
	transfer->granted = oauth_token_response(credentials->state, result, &error, &hint);
	report->error_class = result->error_class ? result->error_class : psprintf("TOKEN_%d", result->status);
	if (error && hint)
		report->message = psprintf("%s (%s)", error, hint);
	else
		report->message = error ? error : "no token was given";
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

/* Is there more to be asked or sent before the adapter knows anything?  Then the request is made. */
static bool
follows(Transfer *transfer, const HttpResult *result)
{
	const Adapter			*adapter = transfer->conn->adapter;
	const AdapterConnection *conn = &transfer->settings->conn;
	AdapterResponse			 response;

	if (result->status == 0)
		return false;
	fill_response(&response, result);
	if (transfer->kind == TRANSFER_LOOKUP && adapter->follow_lookup)
		return adapter->follow_lookup(conn, transfer->lookups, &transfer->request, &response);
	if (transfer->kind == TRANSFER_WRITE && adapter->follow)
		return adapter->follow(conn, transfer->items, &transfer->request, &response);
	return false;
}

static void
add_count(QueueCount *count, const Transfer *transfer, const HttpResult *result)
{
	count->requests++;
	count->writes += transfer->request.writes ? 1 : 0;
	count->subrequests += transfer->request.subrequests;
	count->bytes_sent += result->bytes_sent;
	count->bytes_received += result->bytes_received;
	count->elapsed_us += result->elapsed_us;
}

/* The same items go on with the next request. */
static void
go_on(Transfer *transfer)
{
	http_transfer_free(transfer->http);
	transfer->http = NULL;
	transfer->follows = true;
	transfer->wrote = transfer->sent.writes > 0;
	dlist_push_tail(&transfer->conn->following, &transfer->node);
}

static void
read_answer(Transfer *transfer, const HttpResult *result)
{
	const Adapter			*adapter = transfer->conn->adapter;
	const AdapterConnection *conn = &transfer->settings->conn;
	AdapterReport			*report = &transfer->report;
	AdapterResponse			 response;

	if (result->error_class && strcmp(result->error_class, "NOT_ALLOWED") == 0)
	{
		transfer->verdict = RESPONSE_PAUSE;
		report->error_class = result->error_class;
		report->message = result->message;
		return;
	}
	fill_response(&response, result);
	if (transfer->kind == TRANSFER_PROBE)
		transfer->verdict = adapter->read_probe(conn, &response, report);
	else if (transfer->kind == TRANSFER_LOOKUP)
	{
		prepare_found(&transfer->found, transfer->n);
		transfer->verdict =
			adapter->read_lookup(conn, transfer->lookups, &transfer->request, &response, &transfer->found, report);
	}
	else
	{
		transfer->outcomes = palloc0(sizeof(AdapterOutcome) * transfer->n);
		transfer->verdict =
			adapter->read(conn, transfer->items, &transfer->request, &response, transfer->outcomes, report);
	}
}

/* What the answer tells of rate-limit rules, its own and those of the calls inside it. */
static void
notice_rates(Transfer *transfer, const HttpResult *result, TimestampTz now)
{
	Pace	  *pace = &transfer->conn->pace;
	PaceNotice notice = {.api = transfer->api, .retry_after_s = result->retry_after_s};

	if (result->rate_headers)
	{
		notice.rule = result->rate_rule[0] ? result->rate_rule : transfer->api;
		notice.limit = result->rate_limit;
		notice.reset = result->rate_reset;
		notice.exhausted = result->status == 429;
		pace_noticed(pace, &notice, &transfer->ticket, now);
	}
	for (int i = 0; i < transfer->report.nrates; i++)
	{
		const AdapterRate *rate = &transfer->report.rates[i];

		notice.rule = rate->rule;
		notice.limit = rate->limit;
		notice.reset = rate->reset;
		notice.exhausted = rate->exhausted;
		notice.retry_after_s = -1;
		notice.inside = true;
		notice.counted = rate->counted;
		pace_noticed(pace, &notice, &transfer->ticket, now);
	}
}

/* What the answer means for how fast its connection is talked to. */
static void
judge_pace(Transfer *transfer, const HttpResult *result, TimestampTz now)
{
	Pace *pace = &transfer->conn->pace;
	bool  of_token = transfer->kind == TRANSFER_TOKEN;

	if (of_token && transfer->granted == OAUTH_LATER)
		pace_failed(pace, now, result->retry_after_s);
	if (of_token)
	{
		/* of a probe's token: the question itself comes next */
		if (transfer->granted != OAUTH_LATER)
			pace->probing = false;
		return;
	}
	/* A platform that counts our requests is there again; what it says of them holds back by itself. */
	if (transfer->kind == TRANSFER_PROBE && transfer->verdict == RESPONSE_THROTTLED)
		pace_works(pace);
	if (transfer->verdict == RESPONSE_THROTTLED && (!result->rate_headers || result->rate_limit < 0))
		pace_throttled(pace, &transfer->ticket, now, result->retry_after_s);
	else if (transfer->verdict == RESPONSE_RETRY || (transfer->verdict == RESPONSE_SPLIT && result->status == 0))
		pace_failed(pace, now, result->retry_after_s);
	else if (transfer->verdict == RESPONSE_READABLE || transfer->verdict == RESPONSE_DEAD ||
			 transfer->verdict == RESPONSE_SPLIT)
		pace_works(pace);
	else
		pace->probing = false;
}

/* One item went through, and its connection has more to send meanwhile: nobody waits for it to be written down. */
static bool
can_wait(const Transfer *transfer)
{
	const Connection *conn = transfer->conn;

	return transfer->kind == TRANSFER_WRITE && transfer->verdict == RESPONSE_READABLE && transfer->claim->n > 1 &&
		   transfer->n == 1 && conn->nready > 0 && room_ahead(conn) == 0;
}

static void
collect(Runner *runner, Transfer *transfer)
{
	const HttpResult *result = http_result(transfer->http);
	TimestampTz		  now = GetCurrentTimestamp();
	MemoryContext	  old = MemoryContextSwitchTo(transfer->context);
	bool			  more;

	runner->in_flight--;
	transfer->status = result->status;
	dlist_delete(&transfer->node);
	add_count(&transfer->sent, transfer, result);
	more = follows(transfer, result);
	if (more)
		transfer->verdict = RESPONSE_READABLE;
	else if (transfer->kind == TRANSFER_TOKEN)
		read_token(transfer, result);
	else
		read_answer(transfer, result);
	notice_rates(transfer, result, now);
	pace_answered(&transfer->conn->pace, &transfer->ticket);
	judge_pace(transfer, result, now);
	if (more)
	{
		go_on(transfer);
		MemoryContextSwitchTo(old);
		feed(runner, transfer->conn);
		return;
	}
	if (transfer->report.error_class == NULL)
		transfer->report.error_class = "UNKNOWN";
	if (transfer->report.message == NULL)
		transfer->report.message = "the platform's answer was refused without a reason";
	MemoryContextSwitchTo(old);
	dlist_push_tail(&runner->answered, &transfer->node);
	if (runner->nanswered++ == 0)
		runner->answered_at = now;
	feed(runner, transfer->conn);
	if (!can_wait(transfer))
		runner->urgent = true;
}

bool
run_collect(Runner *runner)
{
	HttpTransfer *http;

	while ((http = http_next_finished(runner->engine)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		collect(runner, http_owner(http));
	}
	return runner->nanswered > 0;
}

/* Is a connection in no state to go on with what was begun? */
static bool
cannot_go_on(const Connection *conn, TimestampTz now)
{
	return conn->stale || conn->pace.breaker != PACE_CLOSED || !oauth_ready(conn->credentials.state, now);
}

/* When time alone lets something that follows go on; DT_NOEND: nothing does, or an answer will. */
static TimestampTz
following_at(const Runner *runner)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach (iter, (dlist_head *) &runner->connections.list)
	{
		Connection *conn = dlist_container(Connection, node, iter.cur);
		TimestampTz until;

		if (dlist_is_empty(&conn->following))
			continue;
		if (cannot_go_on(conn, now) ||
			pace_may_send(&conn->pace, dlist_head_element(Transfer, node, &conn->following)->api, now, &until) ==
				PACE_GO)
			at = Min(at, now);
		else if (until != 0)
			at = Min(at, until);
	}
	return at;
}

long
run_settle_in_ms(const Runner *runner)
{
	TimestampTz by = runner->answered_at + SETTLE_WITHIN_MS * INT64CONST(1000);
	bool		postponed = has_postponed(runner);
	TimestampTz following = following_at(runner);

	if (runner->nanswered == 0 && !postponed)
		return following == DT_NOEND ? -1 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), following);
	if (runner->nanswered > 0 && (runner->urgent || runner->nanswered >= SETTLE_TOGETHER))
		return 0;
	if (runner->nanswered == 0)
		by = runner->postponed_to;
	else if (postponed)
		by = Min(by, runner->postponed_to);
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), Min(by, following));
}

/* ----------------------------------------------------------------
 * Settle: what is written down is gathered run by run, and written at the end
 * ----------------------------------------------------------------
 */

static Tally *
tally_for(Runner *runner, Connection *conn, int64 run_id)
{
	ListCell *lc;
	Tally	 *tally;

	foreach (lc, runner->tallies)
	{
		tally = lfirst(lc);
		if (tally->conn == conn && tally->run_id == run_id)
			return tally;
	}
	tally = palloc0(sizeof(Tally));
	tally->conn = conn;
	tally->run_id = run_id;
	runner->tallies = lappend(runner->tallies, tally);
	return tally;
}

static void
put_outcome(Tally *tally, const Transfer *transfer, int i, const AdapterOutcome *outcome, long retry_after_s)
{
	QueueOutcome *to;

	if (tally->noutcomes == tally->room)
	{
		tally->room = Max(tally->room * 2, 64);
		tally->outcomes = tally->outcomes ? repalloc_huge(tally->outcomes, sizeof(QueueOutcome) * tally->room)
										  : palloc(sizeof(QueueOutcome) * tally->room);
	}
	to = &tally->outcomes[tally->noutcomes++];
	to->item = &transfer->items[i];
	to->outcome = *outcome;
	if (outcome->kind == OUTCOME_RETRY || outcome->kind == OUTCOME_RELEASE || outcome->kind == OUTCOME_AGAIN)
		transfer->conn->front = true;
	/* What was in doubt before this claim still is, if nothing was done about it; and something may have been, by a request before. */
	if (outcome->kind == OUTCOME_RELEASE && (to->item->in_doubt || transfer->wrote))
		to->outcome.kind = OUTCOME_AGAIN;
	to->http_status = transfer->status;
	to->retry_after_s = retry_after_s;
}

/* One outcome for n of a request's look-ups from the first on. */
static void
settle_lookups_alike(Transfer *transfer, int first, int n, const AdapterOutcome *alike, long retry_after_s)
{
	AdapterLookupResult found;

	prepare_found(&found, n);
	for (int i = 0; i < n; i++)
	{
		found.kinds[i] = alike->kind;
		found.error_classes[i] = alike->error_class;
		found.messages[i] = alike->message;
	}
	queue_settle_lookups(&transfer->conn->id, n, transfer->lookups + first, &found, retry_after_s);
}

/* One outcome for n of what a transfer carries. */
static void
settle_alike(Runner *runner, Transfer *transfer, int first, int n, const AdapterOutcome *alike, long retry_after_s)
{
	if (transfer->kind == TRANSFER_LOOKUP)
		settle_lookups_alike(transfer, first, n, alike, retry_after_s);
	else if (transfer->kind == TRANSFER_WRITE)
	{
		Tally *tally = tally_for(runner, transfer->conn, transfer->run_id);

		for (int i = first; i < first + n; i++)
			put_outcome(tally, transfer, i, alike, retry_after_s);
	}
}

/* One outcome for all that travelled, for the reason that was given. */
static void
settle_all(Runner *runner, Transfer *transfer, OutcomeKind kind, long retry_after_s)
{
	AdapterOutcome alike = {
		.kind = kind,
		.error_class = transfer->report.error_class,
		.message = transfer->report.message,
	};

	settle_alike(runner, transfer, 0, transfer->request.nused, &alike, retry_after_s);
}

/* Gives back what did not fit; its request may still be under way. */
static void
settle_leftovers(Runner *runner, Transfer *transfer)
{
	AdapterOutcome released = {.kind = OUTCOME_RELEASE};

	settle_alike(runner, transfer, transfer->request.nused, transfer->leftovers, &released, -1);
	transfer->leftovers = 0;
}

/* Gives back what was claimed and never sent, and forgets it. */
static void
settle_unsent(Runner *runner, Transfer *transfer)
{
	AdapterOutcome released = {.kind = OUTCOME_RELEASE};

	settle_alike(runner, transfer, 0, transfer->n, &released, -1);
	flush_tallies(runner);
	free_transfer(transfer);
}

/*
 * Nothing more goes out on this connection.  What others of its answers said
 * is written down before, since pausing takes back all that is on the wire.
 */
static void
pause_for(Runner *runner, const Transfer *transfer)
{
	Connection *conn = transfer->conn;
	int			kept = 0;

	give_back_ready(runner, conn, 0);
	flush_tallies(runner);
	connection_pause(conn, transfer->report.error_class, transfer->report.message);
	for (int i = 0; i < runner->nwork; i++)
		if (memcmp(&runner->work[i].connection_id, &conn->id, sizeof(conn->id)) != 0)
			runner->work[kept++] = runner->work[i];
	runner->nwork = kept;
}

static void
settle_token(Runner *runner, Transfer *transfer)
{
	Connection *conn = transfer->conn;

	if (conn->credentials.number != transfer->credentials)
		return;
	switch (transfer->granted)
	{
		case OAUTH_GRANTED:
			conn->credentials.token++;
			conn->credentials.used = false;
			break;
		case OAUTH_AGAIN:
			break;
		case OAUTH_LATER:
			connection_trouble(conn, transfer->report.error_class, transfer->report.message);
			break;
		case OAUTH_REFUSED:
			pause_for(runner, transfer);
			break;
	}
}

/*
 * 401.  A token that others have been refused with, too, counts once, and one
 * that has worked has merely ended; fresh ones that are refused mean that it
 * isn't the token.
 */
static void
settle_unauthorized(Runner *runner, Transfer *transfer)
{
	Connection			  *conn = transfer->conn;
	ConnectionCredentials *credentials = &conn->credentials;

	settle_all(runner, transfer, OUTCOME_RELEASE, -1);
	if (credentials->number != transfer->credentials || credentials->token != transfer->token)
		return;
	if (!credentials->used)
		credentials->refusals++;
	if (!credentials->renewable || credentials->refusals > 1)
	{
		pause_for(runner, transfer);
		return;
	}
	credentials->token++;
	oauth_token_refused(credentials->state);
}

/* A request that libcurl sent twice finds there what its first sending made. */
static void
own_what_was_made(AdapterOutcome *outcome, const AdapterItem *item)
{
	if (strcmp(item->action, "CREATE") == 0 && outcome->external_id != NULL &&
		(outcome->kind == OUTCOME_DONE || outcome->kind == OUTCOME_UNCHANGED))
	{
		outcome->kind = OUTCOME_DONE;
		outcome->operation = "create";
	}
}

static void
settle_readable(Runner *runner, Transfer *transfer)
{
	const HttpResult *result = http_result(transfer->http);
	Connection		 *conn = transfer->conn;
	int				  n = transfer->request.nused;

	conn->credentials.refusals = 0;
	conn->credentials.used = true;
	connection_works(conn);
	if (transfer->kind == TRANSFER_PROBE)
		return;
	grow(transfer);
	if (transfer->kind == TRANSFER_LOOKUP)
		queue_settle_lookups(&conn->id, n, transfer->lookups, &transfer->found, result->retry_after_s);
	else
	{
		Tally *tally = tally_for(runner, conn, transfer->run_id);

		for (int i = 0; i < n; i++)
		{
			if (result->repeated)
				own_what_was_made(&transfer->outcomes[i], &transfer->items[i]);
			put_outcome(tally, transfer, i, &transfer->outcomes[i], -1);
		}
	}
}

/* A dry run is one question about many records, which settle_lookups() asks again as two. */
static bool
can_be_halved(const Transfer *transfer)
{
	return transfer->kind == TRANSFER_LOOKUP && strcmp(transfer->lookups[0].kind, "dry_run") == 0 &&
		   transfer->lookups[0].nkeys > 1;
}

/* Too much for one request: the same again in halves, which costs an attempt only where nothing is left to halve. */
static void
settle_split(Runner *runner, Transfer *transfer)
{
	connection_trouble(transfer->conn, transfer->report.error_class, transfer->report.message);
	halve(transfer, SUCCESSES_TO_GROW);
	settle_all(runner, transfer, transfer->request.nused > 1 || can_be_halved(transfer) ? OUTCOME_AGAIN : OUTCOME_RETRY,
			   -1);
}

/* One bad item spoils them all: halve, until it stands alone. */
static void
settle_refused(Runner *runner, Transfer *transfer)
{
	OutcomeKind kind = OUTCOME_DEAD;

	halve(transfer, 1);
	if (can_be_halved(transfer))
		kind = OUTCOME_AGAIN;
	else if (transfer->request.nused > 1 && transfer->kind == TRANSFER_WRITE)
		kind = OUTCOME_RELEASE;
	settle_all(runner, transfer, kind, -1);
}

static void
settle_answer(Runner *runner, Transfer *transfer)
{
	const AdapterReport *report = &transfer->report;
	long				 retry_after_s = http_result(transfer->http)->retry_after_s;

	switch (transfer->verdict)
	{
		case RESPONSE_READABLE:
			settle_readable(runner, transfer);
			break;
		case RESPONSE_RETRY:
			connection_trouble(transfer->conn, report->error_class, report->message);
			settle_all(runner, transfer, OUTCOME_RETRY, retry_after_s);
			break;
		case RESPONSE_THROTTLED:
			connection_trouble(transfer->conn, report->error_class, report->message);
			settle_all(runner, transfer, OUTCOME_RELEASE, -1);
			break;
		case RESPONSE_SPLIT:
			settle_split(runner, transfer);
			break;
		case RESPONSE_REAUTHENTICATE:
			settle_unauthorized(runner, transfer);
			break;
		case RESPONSE_PAUSE:
			settle_all(runner, transfer, OUTCOME_RELEASE, -1);
			if (transfer->conn->credentials.number == transfer->credentials)
				pause_for(runner, transfer);
			break;
		case RESPONSE_DEAD:
			settle_refused(runner, transfer);
			break;
	}
}

static void
count_request(Runner *runner, const Transfer *transfer)
{
	Tally	   *tally = tally_for(runner, transfer->conn, transfer->run_id);
	const char *step = transfer->claim ? transfer->claim->steps[transfer->first] : NULL;
	QueueCount *count = NULL;
	ListCell   *lc;

	foreach (lc, tally->counts)
	{
		QueueCount *known = lfirst(lc);

		if ((known->step == NULL) == (step == NULL) && (step == NULL || strcmp(known->step, step) == 0))
			count = known;
	}
	if (count == NULL)
	{
		count = palloc0(sizeof(QueueCount));
		count->run_id = transfer->run_id;
		count->step = step ? pstrdup(step) : NULL;
		tally->counts = lappend(tally->counts, count);
	}
	count->requests += transfer->sent.requests;
	count->writes += transfer->sent.writes;
	count->subrequests += transfer->sent.subrequests;
	count->bytes_sent += transfer->sent.bytes_sent;
	count->bytes_received += transfer->sent.bytes_received;
	count->elapsed_us += transfer->sent.elapsed_us;
}

/* Writes down what was gathered. */
static void
flush_tallies(Runner *runner)
{
	ListCell *lc;
	ListCell *count;

	foreach (lc, runner->tallies)
	{
		Tally *tally = lfirst(lc);

		queue_settle(&tally->conn->id, tally->run_id, tally->noutcomes, tally->outcomes);
		foreach (count, tally->counts)
			queue_count_requests(&tally->conn->id, lfirst(count));
	}
	runner->tallies = NIL;
}

static bool
has_work(const Runner *runner, const Connection *conn)
{
	for (int i = 0; i < runner->nwork; i++)
		if (memcmp(&runner->work[i].connection_id, &conn->id, sizeof(conn->id)) == 0)
			return true;
	return false;
}

static void
settle(Runner *runner, Transfer *transfer)
{
	if (!has_work(runner, transfer->conn))
		runner->idle_answer = true;
	count_request(runner, transfer);
	if (transfer->leftovers > 0)
		settle_leftovers(runner, transfer);
	if (transfer->kind == TRANSFER_TOKEN)
		settle_token(runner, transfer);
	else
		settle_answer(runner, transfer);
}

static void
settle_all_leftovers(Runner *runner)
{
	dlist_iter iter;

	dlist_foreach (iter, &runner->flying)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->leftovers > 0)
			settle_leftovers(runner, transfer);
	}
}

/* One that was asked about in this transaction. */
typedef struct Held
{
	const Connection *conn;
	int64			  run_id;
	bool			  free;
} Held;

/*
 * May a transfer be settled?  Not while somebody's transaction holds the row
 * of its run or of its connection: the others do not wait for that.
 */
static bool
is_free(List **asked, const Transfer *transfer)
{
	ListCell *lc;
	Held	 *held;

	foreach (lc, *asked)
	{
		held = lfirst(lc);
		if (held->conn == transfer->conn && held->run_id == transfer->run_id)
			return held->free;
	}
	held = palloc(sizeof(Held));
	held->conn = transfer->conn;
	held->run_id = transfer->run_id;
	held->free = queue_is_free(&transfer->conn->id, transfer->run_id);
	*asked = lappend(*asked, held);
	return held->free;
}

/* What was postponed, and is due, is tried with what was answered since. */
static void
take_postponed(Runner *runner)
{
	if (!has_postponed(runner) || GetCurrentTimestamp() < runner->postponed_to)
		return;
	while (!dlist_is_empty(&runner->postponed))
		dlist_push_head(&runner->answered, dlist_pop_head_node(&runner->postponed));
}

static void
postpone(Runner *runner, Transfer *transfer)
{
	dlist_delete(&transfer->node);
	if (!has_postponed(runner))
		runner->postponed_to = GetCurrentTimestamp() + POSTPONE_MS * INT64CONST(1000);
	dlist_push_tail(&runner->postponed, &transfer->node);
}

void
run_settle(Runner *runner)
{
	dlist_mutable_iter iter;
	dlist_iter		   each;
	List			  *asked = NIL;

	Assert(runner->tallies == NIL);
	take_postponed(runner);
	settle_all_leftovers(runner);
	dlist_foreach (each, &runner->connections.list)
	{
		Connection *conn = dlist_container(Connection, node, each.cur);

		if (cannot_go_on(conn, GetCurrentTimestamp()))
			give_back_following(runner, conn, 0);
	}
	dlist_foreach_modify (iter, &runner->answered)
	{
		Transfer *transfer = dlist_container(Transfer, node, iter.cur);

		CHECK_FOR_INTERRUPTS();
		if (is_free(&asked, transfer))
			settle(runner, transfer);
		else
			postpone(runner, transfer);
	}
	flush_tallies(runner);
	while (!dlist_is_empty(&runner->answered))
		free_transfer(dlist_container(Transfer, node, dlist_pop_head_node(&runner->answered)));
	runner->nanswered = 0;
	runner->urgent = false;
}
