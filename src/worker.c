/*
 * worker.c
 *	  The worker process: one loop over latch, network and clock.
 *
 * A turn of the loop settles what has been answered, asks the tables what is
 * to be done, claims it, commits, and sends it.  Between two turns it waits,
 * without transaction, snapshot or lock.  An idle worker runs no query but
 * the slow poll's.
 *
 * It ends by itself, with code 0, when the extension is not there (any more);
 * an ERROR ends it, too.  The launcher decides when another one starts.
 *
 * Must not: read a table, know a protocol, block anywhere but in wait_turn().
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "http.h"
#include "launcher.h"
#include "pgsync_itsm.h"
#include "planner.h"
#include "queue.h"
#include "run.h"
#include "worker.h"

/* A burst of commits wakes the worker no more often than this. */
#define WAKE_INTERVAL_MS 5

/* However many answers come: so often the tables are asked what there is to do. */
#define LOOK_INTERVAL_MS 200

/* So long may a step of a small plan take here; then it is the planner's. */
#define HERE_MS 300

/* Of so many connections, and for so long, it is remembered that it was not enough. */
#define MAX_SLOW 32
#define SLOW_MS 60000

/* Somebody holds a run that is to be planned: a planner, which will wake us, or its user. */
#define BUSY_MS 500

typedef struct SlowSource
{
	pg_uuid_t	connection_id;
	TimestampTz until;
} SlowSource;

typedef struct Worker
{
	MemoryContext cycle_context; /* reset each turn */
	HttpEngine	 *engine;
	Runner		 *runner;
	WaitEventSet *events;
	uint32		  wait_event;
	bool		  ready;	   /* this database may push */
	bool		  recovered;   /* what a dead worker left was taken over */
	int64		  waiting_run; /* plan that only answers can bring further */
	TimestampTz	  last_look;   /* at the tables */
	TimestampTz	  next_look;
	TimestampTz	  leases_at; /* last look for those that ran out */
	TimestampTz	  oldest_change;
	char		  shown[64]; /* what it waits for */
	SlowSource	  slow[MAX_SLOW];
	int			  next_slow;
} Worker;

/* ----------------------------------------------------------------
 * A turn
 * ----------------------------------------------------------------
 */

static void
look_before(Worker *worker, TimestampTz when)
{
	worker->next_look = Min(worker->next_look, when);
}

static void
look_in(Worker *worker, long ms)
{
	look_before(worker, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms));
}

/* The extension is gone, or another one came in its place. */
static void
leave(void)
{
	launcher_set_state(LAUNCHER_ABSENT);
	queue_flush_statistics();
	proc_exit(0);
}

static void
remember_slow(Worker *worker, const pg_uuid_t *connection_id)
{
	SlowSource *slow = &worker->slow[worker->next_slow++ % MAX_SLOW];

	slow->connection_id = *connection_id;
	slow->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SLOW_MS);
}

static bool
was_slow(Worker *worker, const pg_uuid_t *connection_id)
{
	for (int i = 0; i < MAX_SLOW; i++)
		if (memcmp(&worker->slow[i].connection_id, connection_id, UUID_LEN) == 0 &&
			worker->slow[i].until > GetCurrentTimestamp())
			return true;
	return false;
}

/*
 * A step of a small plan.  Answers or the next step want another turn at once.
 * While its sources are read nothing else happens here, so that they get a
 * moment only.  False if that was not enough.
 */
static bool
plan_here(Worker *worker, const QueueTurn *turn)
{
	QueuePlan outcome;

	if (turn->run_id == worker->waiting_run)
		return true;
	(void) launcher_set_here_run(turn->run_id);
	if (!planner_step(turn->run_id, HERE_MS, &outcome))
		leave();
	(void) launcher_set_here_run(0);
	if (outcome == QUEUE_PLAN_WAITS)
		worker->waiting_run = turn->run_id;
	if (outcome == QUEUE_PLAN_MOVED)
		remember_slow(worker, &turn->connection_id);
	look_in(worker, outcome == QUEUE_PLAN_BUSY ? BUSY_MS : 0);
	return outcome != QUEUE_PLAN_MOVED;
}

static void
start_planner(Worker *worker, PlannerLane lane)
{
	long again = planner_start(lane);

	if (again > 0)
		look_in(worker, again);
}

/* Small plans, and who else is to plan. */
static void
follow_plans(Worker *worker, const QueueTurn *turns, int nturns)
{
	bool wanted[PLANNER_LANES] = {false, false};
	bool goes_on = true;

	for (int i = 0; i < nturns; i++)
	{
		const QueueTurn *turn = &turns[i];
		bool			 small = turn->what == QUEUE_PLAN_HERE;

		if (turn->what != QUEUE_PLAN && turn->what != QUEUE_PLAN_SLOW && !small)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (launcher_run_is_planned(turn->run_id))
			continue;
		if (small && !was_slow(worker, &turn->connection_id))
		{
			/* one that takes its time here is enough for a turn */
			if (goes_on)
				goes_on = plan_here(worker, turn);
			else
				look_in(worker, 0);
		}
		else
			wanted[turn->what == QUEUE_PLAN_SLOW ? PLANNER_SLOW : PLANNER_FAST] = true;
	}
	for (int lane = 0; lane < PLANNER_LANES; lane++)
		if (wanted[lane])
			start_planner(worker, lane);
}

/* What a turn asks for beside requests; after its commit. */
static void
follow_turns(Worker *worker, const QueueTurn *turns, int nturns)
{
	for (int i = 0; i < nturns; i++)
	{
		CHECK_FOR_INTERRUPTS();
		switch (turns[i].what)
		{
			case QUEUE_PLAN_HERE:
			case QUEUE_PLAN:
			case QUEUE_PLAN_SLOW:
				break; /* done by follow_plans() */
			case QUEUE_CANCEL:
				launcher_cancel_planner(turns[i].run_id);
				break;
			case QUEUE_SLEEP:
				if (turns[i].due != 0)
					look_before(worker, turns[i].due);
				break;
			case QUEUE_LOOKUP:
			case QUEUE_WRITE:
				break; /* done by run_claim() */
		}
	}
}

/* As often as the slow poll, where a worker has no claims of its own. */
static bool
leases_are_due(Worker *worker)
{
	if (run_holds_claims(worker->runner) ||
		!TimestampDifferenceExceeds(worker->leases_at, worker->last_look, pgsync_itsm_slow_poll * 1000))
		return false;
	worker->leases_at = worker->last_look;
	return true;
}

/* What ended the worker before while it planned is not tried here again. */
static void
recover(void)
{
	int64 run_id = launcher_set_here_run(0);

	queue_recover();
	if (run_id == 0)
		return;
	ereport(LOG, (errmsg("pgsync_itsm leaves run " INT64_FORMAT
						 " to the planner: the worker before ended while it planned it",
						 run_id)));
	queue_move_plan(run_id, false);
}

/* Asks the tables what there is to do.  Returns the turns' number. */
static int
look(Worker *worker, QueueTurn **turns)
{
	int nturns = 0;

	worker->last_look = GetCurrentTimestamp();
	worker->next_look = TimestampTzPlusMilliseconds(worker->last_look, pgsync_itsm_slow_poll * INT64CONST(1000));
	worker->ready = queue_worker_ready();
	if (worker->ready && !worker->recovered)
		recover();
	/* what comes with an adoption was left by another one, too */
	worker->recovered = worker->ready;
	if (worker->ready)
		nturns = queue_turn(leases_are_due(worker), turns);
	worker->oldest_change = queue_oldest_change();
	run_take_turns(worker->runner, *turns, nturns);
	return nturns;
}

/*
 * Takes what has come meanwhile, and sends what waits for a slot; touches no
 * table.  Never after a claim that is not committed yet: that would be sent.
 */
static void
keep_network_going(Worker *worker)
{
	http_drive(worker->engine, true);
	(void) run_collect(worker->runner);
}

/*
 * The part of a turn that is one transaction.  As long as answers come and
 * there is more to claim of what is known, nothing else is asked.  Returns the
 * turns' number.
 */
static int
settle_and_claim(Worker *worker, bool looks, QueueTurn **turns)
{
	int nturns = 0;

	if (!queue_begin("pgsync_itsm: settling and claiming"))
		leave();
	run_settle(worker->runner);
	keep_network_going(worker);
	if (looks)
		nturns = look(worker, turns);
	if (run_claim(worker->runner) && !looks)
	{
		nturns = look(worker, turns);
		(void) run_claim(worker->runner);
	}
	queue_commit();
	launcher_set_state(worker->ready ? LAUNCHER_BUSY : LAUNCHER_NOT_ADOPTED);
	return nturns;
}

static void
take_turn(Worker *worker, bool looks)
{
	QueueTurn *turns = NULL;
	int		   nturns;

	launcher_set_state(LAUNCHER_BUSY);
	worker->shown[0] = '\0';
	nturns = settle_and_claim(worker, looks, &turns);
	run_send(worker->runner);
	follow_turns(worker, turns, nturns);
	follow_plans(worker, turns, nturns);
	if (run_has_leftovers(worker->runner))
		look_in(worker, 0);
	look_before(worker, run_resume_at(worker->runner));
	launcher_report_cycle(run_in_flight(worker->runner), worker->oldest_change);
}

/* ----------------------------------------------------------------
 * The loop
 * ----------------------------------------------------------------
 */

/*
 * A cancel request has nothing to cancel between transactions.  A reload may
 * have changed what a turn does, or how long it waits for the next one.
 */
static void
handle_interrupts(Worker *worker)
{
	if (!IsTransactionState())
		QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		planner_pin_settings();
		look_in(worker, 0);
	}
}

static long
milliseconds_to_wait(Worker *worker)
{
	long turn = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), worker->next_look);
	long network = http_deadline_ms(worker->engine);
	long settle = run_settle_in_ms(worker->runner);

	turn = Min(turn, pgsync_itsm_slow_poll * 1000L);
	if (network >= 0)
		turn = Min(turn, network);
	return settle >= 0 ? Min(turn, settle) : turn;
}

/* In pg_stat_activity. */
static void
show_what_for(Worker *worker)
{
	int	 in_flight = run_in_flight(worker->runner);
	char text[64];

	if (in_flight > 0)
		snprintf(text, sizeof(text), "pgsync_itsm: waiting for answers to %d requests", in_flight);
	else
		strlcpy(text, worker->ready ? "pgsync_itsm: waiting for work" : "pgsync_itsm: waiting to be adopted",
				sizeof(text));
	if (strcmp(text, worker->shown) == 0)
		return;
	strlcpy(worker->shown, text, sizeof(worker->shown));
	pgstat_report_activity(STATE_IDLE, text);
}

/* The only place where the worker waits. */
static void
wait_turn(Worker *worker)
{
	WaitEvent events[3];
	long	  timeout = milliseconds_to_wait(worker);
	bool	  readable = false;
	int		  n;

	if (timeout > 0)
	{
		launcher_set_idle();
		show_what_for(worker);
	}
	if (timeout > 1000)
		queue_flush_statistics();
	n = WaitEventSetWait(worker->events, timeout, events, lengthof(events), worker->wait_event);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		if (events[i].events & WL_SOCKET_READABLE)
			readable = true;
	}
	http_drive(worker->engine, readable);
}

/* Is it time to look at the tables? */
static bool
look_is_due(Worker *worker, bool answered)
{
	TimestampTz now = GetCurrentTimestamp();

	/* the clock was set back: what is planned is too far away */
	if (now < worker->last_look)
		return true;
	if (launcher_take_wake())
	{
		run_reread_connections(worker->runner);
		look_before(worker, TimestampTzPlusMilliseconds(worker->last_look, WAKE_INTERVAL_MS));
	}
	if (answered && TimestampDifferenceExceeds(worker->last_look, now, LOOK_INTERVAL_MS))
		return true;
	return now >= worker->next_look;
}

static void
work(Worker *worker)
{
	for (;;)
	{
		bool answered;
		bool looks;

		handle_interrupts(worker);
		MemoryContextReset(worker->cycle_context);
		MemoryContextSwitchTo(worker->cycle_context);
		answered = run_collect(worker->runner);
		if (answered)
			worker->waiting_run = 0;
		looks = look_is_due(worker, answered);
		if (looks || run_settle_in_ms(worker->runner) == 0)
			take_turn(worker, looks);
		wait_turn(worker);
	}
}

/* ----------------------------------------------------------------
 * The process
 * ----------------------------------------------------------------
 */

static Worker *
create_worker(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pgsync_itsm worker", ALLOCSET_DEFAULT_SIZES);
	Worker		 *worker;

	MemoryContextSwitchTo(context);
	worker = palloc0(sizeof(Worker));
	worker->cycle_context = AllocSetContextCreate(context, "pgsync_itsm cycle", ALLOCSET_DEFAULT_SIZES);
	worker->leases_at = GetCurrentTimestamp();
	worker->engine = http_engine_create();
	worker->runner = run_create(worker->engine);
	worker->wait_event = compat_wait_event("PgsyncItsmWorker");
	worker->events = compat_create_wait_event_set(3);
	AddWaitEventToSet(worker->events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(worker->events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(worker->events, WL_SOCKET_READABLE, http_mux_fd(worker->engine), NULL, NULL);
	return worker;
}

static void
connect_database(Oid dboid)
{
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	planner_pin_settings();
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_OVERRIDE);

	/*
	 * The worker only ever asks by key. Its plans live as long as it does, and
	 * one made while the tables were empty would scan them whole when they are
	 * not.
	 */
	SetConfigOption("enable_seqscan", "off", PGC_USERSET, PGC_S_OVERRIDE);

	/*
	 * For the same reason a plan for the values at hand is never better here,
	 * and making it costs more than running it: a settlement of one item is
	 * ten statements.
	 */
	SetConfigOption("plan_cache_mode", "force_generic_plan", PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* The error is for the log; its code and words are for itsm_stat_worker, too. */
static void
report_error(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	launcher_report_error(error->sqlerrcode, error->message);
}

void
worker_main(Datum arg)
{
	Worker *worker;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	launcher_attach_worker();
	connect_database(DatumGetObjectId(arg));
	PG_TRY();
	{
		worker = create_worker();
		work(worker);
	}
	PG_CATCH();
	{
		report_error(TopMemoryContext);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
