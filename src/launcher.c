/*
 * launcher.c
 *	  The launcher process, the slots in shared memory, waking at commit.
 *
 * The launcher turns pgsync_itsm.databases into one worker per database.  It
 * reads shared catalogs only and connects to no database.  It alone decides
 * when a worker starts again: workers are registered BGW_NEVER_RESTART.
 *
 * A slot stands for one database of the list.  Everything in it is protected
 * by one lightweight lock, but for the wake-up flag.  A slot holds pointers to
 * PGPROC entries, which are shared memory themselves; the process they stand
 * for clears them before it gives its entry back.  Nothing else that belongs
 * to one process may ever be stored there.
 *
 * Must not: know what a worker does, open a connection, keep state on disk.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "aside.h"
#include "compat.h"
#include "launcher.h"
#include "pgsync_itsm.h"

#define RESTART_SECONDS 5 /* of the launcher itself, by the postmaster */
#define LOOK_MS 60000	  /* looks for databases that were missing */
#define ABSENT_MS 300000  /* looks for an extension that was absent */
#define START_MS 10000	  /* a worker that has not begun by then never will */
#define MIN_DELAY_MS 1000 /* between two starts of one worker */
#define PAUSE_MS 500	  /* between an exit and the next start; time for a DROP DATABASE */
#define MAX_DELAY_MS 60000
#define SHORT_MS 2000		  /* without a free worker process, before that is told */
#define MIN_SLOTS 500		  /* most of a long list may be databases without the extension */
#define ASIDE_MS 15000		  /* longer than any statement waits for a database to become free */
#define STEADY_MS 60000		  /* a worker that lived so long was well */
#define PLANNER_PAUSE_MS 5000 /* after a planner that failed */
#define YIELD_MS 5000		  /* to end a phase that was cancelled; then the planner ends */
#define LOST_TIMES 3		  /* a run that ended so many planners is at an end */
#define NOTE_MAX 256

/* A planner's place. Who has it may be moved to another lane. */
typedef struct Seat
{
	PGPROC	   *planner;
	pid_t		pid;
	int64		run;	/* 0: between two */
	TimestampTz since;	/* of run */
	int64		yields; /* the run that it was cancelled for, as others wait */
	TimestampTz yields_at;
	TimestampTz failed_at;
} Seat;

typedef struct Slot
{
	Oid				 dboid;		 /* InvalidOid: free */
	uint32			 generation; /* of the worker; a late one finds another */
	LauncherState	 state;
	TimestampTz		 since; /* of state */
	TimestampTz		 started_at;
	TimestampTz		 restart_at; /* while LAUNCHER_WAITING */
	TimestampTz		 last_cycle;
	TimestampTz		 last_error_at;
	int				 last_error_code;
	char			 last_error[NOTE_MAX];
	TimestampTz		 aside_until; /* no worker before */
	TimestampTz		 short_since; /* no worker process was free; 0: one was */
	int				 failures;	  /* in a row */
	int				 restarts;
	int				 in_flight;
	bool			 recheck; /* the extension may have come */
	PGPROC			*worker;
	pid_t			 worker_pid;
	TimestampTz		 oldest_change;
	int64			 here_run;	 /* that the worker is planning itself */
	int64			 lost_run;	 /* whose planner ended with an error */
	int				 lost_times; /* in a row */
	Seat			 seats[PLANNER_LANES];
	pg_atomic_uint32 wake;
} Slot;

typedef struct Shared
{
	LWLock *lock;
	PGPROC *launcher;
	pid_t	launcher_pid;
	int		nslots;
	Slot	slots[FLEXIBLE_ARRAY_MEMBER];
} Shared;

/* What the launcher hands to a worker, and the worker to its planner. */
typedef struct Ticket
{
	int			slot;
	uint32		generation;
	PlannerLane lane; /* of a planner */
} Ticket;

/* A database of the list. */
typedef struct Target
{
	char	   *name;
	Oid			oid;	  /* InvalidOid: can't be served */
	const char *obstacle; /* why not */
} Target;

StaticAssertDecl(sizeof(Ticket) <= BGW_EXTRALEN, "ticket does not fit");

static const char *const state_names[] = {
	[LAUNCHER_STARTING] = "starting",		[LAUNCHER_IDLE] = "idle",			[LAUNCHER_BUSY] = "busy",
	[LAUNCHER_NOT_ADOPTED] = "not adopted", [LAUNCHER_ABSENT] = "no extension", [LAUNCHER_STOPPING] = "stopping",
	[LAUNCHER_EXITED] = "exited",			[LAUNCHER_WAITING] = "backing off", [LAUNCHER_NO_SLOT] = "no worker slot",
};

static Shared				  *shared = NULL;
static Slot					  *my_slot = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* Asked for in this transaction, sent when it commits. */
static bool wake_worker_at_commit = false;
static bool wake_launcher_at_commit = false;

/* The database that this transaction wants for itself. */
static Oid aside_database = InvalidOid;

/* The launcher's own. */
static BackgroundWorkerHandle **handles = NULL;
static MemoryContext			look_context = NULL;
static List					   *reported = NIL; /* names found missing, told once */
static bool						out_of_slots_reported = false;

/* ----------------------------------------------------------------
 * Shared memory
 * ----------------------------------------------------------------
 */

static int
number_of_slots(void)
{
	return Max(MIN_SLOTS, max_worker_processes);
}

static Size
shared_size(void)
{
	return add_size(offsetof(Shared, slots), mul_size(number_of_slots(), sizeof(Slot)));
}

static void
launcher_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("pgsync_itsm", 1);
}

static void
launcher_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pgsync_itsm", shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &GetNamedLWLockTranche("pgsync_itsm")->lock;
		shared->nslots = number_of_slots();
		for (int i = 0; i < shared->nslots; i++)
			pg_atomic_init_u32(&shared->slots[i].wake, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Caller holds the lock.  A backend looks for the slot of its own database, again and again. */
static Slot *
find_slot(Oid dboid)
{
	static int last = 0;

	if (OidIsValid(dboid) && shared->slots[last].dboid == dboid)
		return &shared->slots[last];
	for (int i = 0; i < shared->nslots; i++)
	{
		if (shared->slots[i].dboid == dboid)
		{
			last = i;
			return &shared->slots[i];
		}
	}
	return NULL;
}

/* Caller holds the lock exclusively. */
static void
set_slot_state(Slot *slot, LauncherState state)
{
	if (slot->state == state)
		return;
	slot->state = state;
	slot->since = GetCurrentTimestamp();
}

/* Caller holds the lock. */
static void
poke_launcher(void)
{
	if (shared->launcher)
		SetLatch(&shared->launcher->procLatch);
}

/* Caller holds the lock. */
static void
wake_slot(Slot *slot)
{
	pg_atomic_write_u32(&slot->wake, 1);
	if (slot->worker)
		SetLatch(&slot->worker->procLatch);
}

/* Without a worker there is no planner.  True if one has to end yet.  Caller holds the lock. */
static bool
end_planners(Slot *slot)
{
	bool any = false;

	for (int lane = 0; lane < PLANNER_LANES; lane++)
	{
		if (slot->seats[lane].planner == NULL)
			continue;
		kill(slot->seats[lane].pid, SIGTERM);
		any = true;
	}
	return any;
}

void
launcher_step_aside(Oid database)
{
	Slot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(database);
	if (slot)
	{
		slot->aside_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ASIDE_MS);
		if (slot->worker)
			kill(slot->worker_pid, SIGTERM);
		(void) end_planners(slot);
		aside_database = database;
	}
	LWLockRelease(shared->lock);
}

/* ----------------------------------------------------------------
 * Waking at commit
 * ----------------------------------------------------------------
 */

/* The transaction has ended: what it wanted a database for is done or given up. */
static void
step_back(void)
{
	Slot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(aside_database);
	if (slot)
		slot->aside_until = 0;
	poke_launcher();
	LWLockRelease(shared->lock);
	aside_database = InvalidOid;
}

/* Neither allocates nor throws: the transaction has committed already. */
static void
send_wakeups(void)
{
	Slot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(MyDatabaseId);
	if (slot)
		wake_slot(slot); /* also a worker whose extension is another now */
	if (wake_launcher_at_commit)
	{
		if (slot)
			slot->recheck = true;
		poke_launcher();
	}
	LWLockRelease(shared->lock);
}

static void
launcher_xact_callback(XactEvent event, void *arg)
{
	if (OidIsValid(aside_database) && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT))
		step_back();
	if (!wake_worker_at_commit && !wake_launcher_at_commit)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			send_wakeups();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE: /* COMMIT PREPARED wakes: aside.c */
			break;
		default:
			return;
	}
	wake_worker_at_commit = false;
	wake_launcher_at_commit = false;
}

void
launcher_wake_at_commit(void)
{
	wake_worker_at_commit = shared != NULL;
}

PG_FUNCTION_INFO_V1(pgsync_itsm_wake);
Datum
pgsync_itsm_wake(PG_FUNCTION_ARGS)
{
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}

void
launcher_look_at_commit(void)
{
	wake_launcher_at_commit = shared != NULL;
}

PG_FUNCTION_INFO_V1(pgsync_itsm_wake_launcher);
Datum
pgsync_itsm_wake_launcher(PG_FUNCTION_ARGS)
{
	launcher_look_at_commit();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * The worker's and the planner's side of a slot
 * ----------------------------------------------------------------
 */

static void
detach_worker(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (my_slot->worker == MyProc)
	{
		my_slot->worker = NULL;
		my_slot->worker_pid = 0;
		my_slot->in_flight = 0;
		if (code != 0 || my_slot->state != LAUNCHER_ABSENT)
			set_slot_state(my_slot, LAUNCHER_EXITED);
		poke_launcher();
	}
	LWLockRelease(shared->lock);
}

/* This planner's place; NULL: it has none. Caller holds the lock. */
static Seat *
my_seat(void)
{
	for (int lane = 0; my_slot && lane < PLANNER_LANES; lane++)
		if (my_slot->seats[lane].planner == MyProc)
			return &my_slot->seats[lane];
	return NULL;
}

/* Caller holds the lock exclusively. */
static void
lose_run(Slot *slot, int64 run_id, int times)
{
	slot->lost_times = slot->lost_run == run_id ? slot->lost_times + times : times;
	slot->lost_run = run_id;
}

static void
detach_planner(int code, Datum arg)
{
	Seat *seat;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	seat = my_seat();
	if (seat)
	{
		if (code != 0 && seat->run != 0)
			lose_run(my_slot, seat->run, 1);
		memset(seat, 0, sizeof(*seat));
		/* a run that is at an end need not be waited for */
		if (code != 0 && my_slot->lost_times < LOST_TIMES)
			seat->failed_at = GetCurrentTimestamp();
		wake_slot(my_slot);
		if (my_slot->worker == NULL)
			poke_launcher();
	}
	LWLockRelease(shared->lock);
}

/*
 * Finds the slot on this process's ticket, or ends the process: whoever gave
 * it the ticket has given the place to another one since.
 */
static void
take_slot(bool planner)
{
	Ticket ticket;
	Slot  *slot;
	Seat  *seat;
	bool   expected;

	memcpy(&ticket, MyBgworkerEntry->bgw_extra, sizeof(ticket));
	if (shared == NULL || ticket.slot < 0 || ticket.slot >= shared->nslots)
		proc_exit(0);
	slot = &shared->slots[ticket.slot];
	seat = &slot->seats[ticket.lane];

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	expected = slot->generation == ticket.generation && slot->dboid == DatumGetObjectId(MyBgworkerEntry->bgw_main_arg);
	if (planner)
		expected = expected && slot->worker != NULL && seat->planner == NULL;
	else
		expected = expected && slot->worker == NULL && slot->state == LAUNCHER_STARTING &&
				   slot->aside_until <= GetCurrentTimestamp();
	if (expected && planner)
	{
		memset(seat, 0, sizeof(*seat));
		seat->planner = MyProc;
		seat->pid = MyProcPid;
	}
	else if (expected)
	{
		slot->worker = MyProc;
		slot->worker_pid = MyProcPid;
		slot->in_flight = 0;
		pg_atomic_write_u32(&slot->wake, 1);
	}
	my_slot = expected ? slot : NULL;
	LWLockRelease(shared->lock);
	if (!expected)
		proc_exit(0);
}

/*
 * The exit callbacks are registered before the transaction machinery
 * registers its own, so they run after it: by the time the place is free,
 * this process has aborted what it was doing.
 */
void
launcher_attach_worker(void)
{
	take_slot(false);
	before_shmem_exit(detach_worker, (Datum) 0);
}

void
launcher_planner_ticket(PlannerLane lane, char *extra)
{
	Ticket ticket;

	memcpy(&ticket, MyBgworkerEntry->bgw_extra, sizeof(ticket));
	ticket.lane = lane;
	memcpy(extra, &ticket, sizeof(ticket));
}

void
launcher_attach_planner(void)
{
	take_slot(true);
	before_shmem_exit(detach_planner, (Datum) 0);
}

bool
launcher_take_wake(void)
{
	return pg_atomic_exchange_u32(&my_slot->wake, 0) != 0;
}

void
launcher_wake_worker(void)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	wake_slot(my_slot);
	LWLockRelease(shared->lock);
}

void
launcher_set_state(LauncherState state)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (my_slot->state != LAUNCHER_STOPPING)
		set_slot_state(my_slot, state);
	LWLockRelease(shared->lock);
}

void
launcher_set_idle(void)
{
	if (my_slot->state == LAUNCHER_BUSY)
		launcher_set_state(LAUNCHER_IDLE);
}

void
launcher_report_cycle(int in_flight, TimestampTz oldest_change)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->last_cycle = GetCurrentTimestamp();
	my_slot->in_flight = in_flight;
	my_slot->oldest_change = oldest_change;
	LWLockRelease(shared->lock);
}

void
launcher_report_error(int sqlerrcode, const char *message)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->last_error_at = GetCurrentTimestamp();
	my_slot->last_error_code = sqlerrcode;
	strlcpy(my_slot->last_error, message ? message : "", NOTE_MAX);
	LWLockRelease(shared->lock);
}

void
launcher_set_planner_run(int64 run_id)
{
	Seat *seat;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	seat = my_seat();
	if (seat)
	{
		/* it has come through */
		if (run_id == 0 && my_slot->lost_run == seat->run)
			my_slot->lost_times = 0;
		seat->run = run_id;
		seat->since = run_id != 0 ? GetCurrentTimestamp() : 0;
		seat->yields = 0;
	}
	LWLockRelease(shared->lock);
}

PlannerLane
launcher_planner_lane(void)
{
	PlannerLane lane;

	LWLockAcquire(shared->lock, LW_SHARED);
	lane = my_seat() == &my_slot->seats[PLANNER_SLOW] ? PLANNER_SLOW : PLANNER_FAST;
	LWLockRelease(shared->lock);
	return lane;
}

bool
launcher_planner_yields(int64 run_id)
{
	Seat *seat;
	bool  yields;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	seat = my_seat();
	yields = seat && run_id != 0 && seat->yields == run_id;
	LWLockRelease(shared->lock);
	return yields;
}

bool
launcher_planner_attached(PlannerLane lane)
{
	bool attached;

	LWLockAcquire(shared->lock, LW_SHARED);
	attached = my_slot->seats[lane].planner != NULL;
	LWLockRelease(shared->lock);
	return attached;
}

long
launcher_planner_pause_ms(PlannerLane lane)
{
	TimestampTz failed_at;

	LWLockAcquire(shared->lock, LW_SHARED);
	failed_at = my_slot->seats[lane].failed_at;
	LWLockRelease(shared->lock);
	if (failed_at == 0)
		return 0;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), failed_at + PLANNER_PAUSE_MS * INT64CONST(1000));
}

/* Caller holds the lock. */
static bool
is_planned(const Slot *slot, int64 run_id)
{
	for (int lane = 0; lane < PLANNER_LANES; lane++)
		if (run_id != 0 && slot->seats[lane].run == run_id && slot->seats[lane].planner != MyProc)
			return true;
	return false;
}

int64
launcher_lost_run(void)
{
	int64 run_id = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (my_slot->lost_times >= LOST_TIMES && !is_planned(my_slot, my_slot->lost_run))
	{
		run_id = my_slot->lost_run;
		my_slot->lost_run = my_slot->lost_times = 0;
	}
	LWLockRelease(shared->lock);
	return run_id;
}

int64
launcher_set_here_run(int64 run_id)
{
	int64 before;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	before = my_slot->here_run;
	my_slot->here_run = run_id;
	LWLockRelease(shared->lock);
	return before;
}

bool
launcher_run_is_planned(int64 run_id)
{
	bool planned;

	LWLockAcquire(shared->lock, LW_SHARED);
	planned = is_planned(my_slot, run_id);
	LWLockRelease(shared->lock);
	return planned;
}

/* Caller holds the lock exclusively. */
static PlannerRelief
interrupt_planner(Slot *slot, Seat *seat, TimestampTz now)
{
	if (seat->yields == seat->run && TimestampDifferenceExceeds(seat->yields_at, now, YIELD_MS))
	{
		lose_run(slot, seat->run, LOST_TIMES);
		kill(seat->pid, SIGTERM);
		return PLANNER_INTERRUPTED;
	}
	if (seat->yields != seat->run)
		seat->yields_at = now;
	seat->yields = seat->run;
	kill(seat->pid, SIGINT);
	return PLANNER_INTERRUPTED;
}

PlannerRelief
launcher_relieve_planner(bool may_move, long *wait_ms)
{
	Seat		 *fast = &my_slot->seats[PLANNER_FAST];
	Seat		 *slow = &my_slot->seats[PLANNER_SLOW];
	TimestampTz	  now = GetCurrentTimestamp();
	PlannerRelief relief = PLANNER_IN_TIME;

	*wait_ms = 0;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (fast->run != 0)
		*wait_ms =
			TimestampDifferenceMilliseconds(now, TimestampTzPlusMilliseconds(fast->since, pgsync_itsm_planner_slice));
	if (fast->planner == NULL || fast->run == 0 || *wait_ms > 0)
		relief = PLANNER_IN_TIME;
	else if (may_move && slow->planner == NULL)
	{
		*slow = *fast;
		memset(fast, 0, sizeof(*fast));
		relief = PLANNER_MOVED;
	}
	else
		relief = interrupt_planner(my_slot, fast, now);
	LWLockRelease(shared->lock);
	return relief;
}

/* Caller holds the lock. */
static bool
cancel_planner(Slot *slot, int64 run_id)
{
	bool cancelled = false;

	for (int lane = 0; lane < PLANNER_LANES; lane++)
	{
		Seat *seat = &slot->seats[lane];

		if (seat->planner != NULL && run_id != 0 && seat->run == run_id)
			cancelled = kill(seat->pid, SIGINT) == 0;
	}
	return cancelled;
}

void
launcher_cancel_planner(int64 run_id)
{
	LWLockAcquire(shared->lock, LW_SHARED);
	(void) cancel_planner(my_slot, run_id);
	LWLockRelease(shared->lock);
}

/* ----------------------------------------------------------------
 * The launcher: from names to databases
 * ----------------------------------------------------------------
 */

/* The names of the list, none of them looked up yet. */
static List *
read_list(void)
{
	List	 *targets = NIL;
	ListCell *cell;

	foreach (cell, pgsync_itsm_database_list())
	{
		Target *target = palloc0(sizeof(Target));

		target->name = lfirst(cell);
		target->obstacle = "it does not exist";
		targets = lappend(targets, target);
	}
	return targets;
}

static void
judge_database(Target *target, Form_pg_database db)
{
	if (db->datistemplate)
		target->obstacle = "it is a template";
	else if (!db->datallowconn)
		target->obstacle = "it does not allow connections";
	else if (database_is_invalid_form(db))
		target->obstacle = "it is invalid";
	else
	{
		target->oid = db->oid;
		target->obstacle = NULL;
	}
}

/* Looks the targets up in pg_database, in a transaction of its own. */
static void
resolve_targets(List *targets)
{
	Relation	  rel;
	TableScanDesc scan;
	HeapTuple	  tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);
		ListCell		*cell;

		foreach (cell, targets)
		{
			Target *target = lfirst(cell);

			if (strcmp(target->name, NameStr(db->datname)) == 0)
				judge_database(target, db);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(look_context);
}

static bool
was_reported(const char *name)
{
	ListCell *cell;

	foreach (cell, reported)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

/* One line for each database that can't be served, until the list changes. */
static void
report_obstacles(List *targets)
{
	ListCell *cell;

	foreach (cell, targets)
	{
		Target		 *target = lfirst(cell);
		MemoryContext old;

		if (target->obstacle == NULL || was_reported(target->name))
			continue;
		ereport(LOG, (errmsg("pgsync_itsm does not serve database \"%s\": %s", target->name, target->obstacle)));
		old = MemoryContextSwitchTo(TopMemoryContext);
		reported = lappend(reported, pstrdup(target->name));
		MemoryContextSwitchTo(old);
	}
}

/* After a reload: another list, another report. */
static void
forget_reports(void)
{
	static char *known = NULL;

	if (known && strcmp(known, pgsync_itsm_databases) == 0)
		return;
	if (known)
		pfree(known);
	known = MemoryContextStrdup(TopMemoryContext, pgsync_itsm_databases);
	list_free_deep(reported);
	reported = NIL;
	out_of_slots_reported = false;
}

/* ----------------------------------------------------------------
 * The launcher: from databases to workers
 * ----------------------------------------------------------------
 */

static const char *
target_name(List *targets, Oid dboid)
{
	ListCell *cell;

	foreach (cell, targets)
		if (((Target *) lfirst(cell))->oid == dboid)
			return ((Target *) lfirst(cell))->name;
	return NULL;
}

/* Told once, until the list changes or all of it is served. */
static void
report_shortage(const char *name)
{
	if (!out_of_slots_reported)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("pgsync_itsm has no worker process left for database \"%s\"", name),
					  errhint("Raise the parameter \"%s\" and restart the server.", "max_worker_processes")));
	out_of_slots_reported = true;
}

/* Gives each new target a free slot. */
static void
assign_slots(List *targets)
{
	ListCell *cell;

	foreach (cell, targets)
	{
		Target *target = lfirst(cell);
		Slot   *slot;

		if (!OidIsValid(target->oid))
			continue;
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		slot = find_slot(target->oid);
		if (slot == NULL && (slot = find_slot(InvalidOid)) != NULL)
		{
			uint32 generation = slot->generation;

			memset(slot, 0, offsetof(Slot, wake));
			slot->generation = generation;
			slot->dboid = target->oid;
			slot->state = LAUNCHER_WAITING;
			slot->restarts = -1;
			slot->since = slot->restart_at = GetCurrentTimestamp();
		}
		LWLockRelease(shared->lock);
		if (slot == NULL)
			target->obstacle = "the list is too long";
	}
}

static void
fill_worker(BackgroundWorker *worker, int i, Oid dboid, uint32 generation, const char *name)
{
	Ticket ticket = {.slot = i, .generation = generation};

	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION | BGWORKER_INTERRUPTIBLE;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	worker->bgw_notify_pid = MyProcPid;
	worker->bgw_main_arg = ObjectIdGetDatum(dboid);
	strlcpy(worker->bgw_library_name, "pgsync_itsm", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, "worker_main", sizeof(worker->bgw_function_name));
	snprintf(worker->bgw_name, BGW_MAXLEN, "pgsync_itsm worker %s", name);
	strlcpy(worker->bgw_type, "pgsync_itsm worker", BGW_MAXLEN);
	memcpy(worker->bgw_extra, &ticket, sizeof(ticket));
}

/* Tried again soon, then seldom, and when one of our own has ended.  True if it has been so for a while. */
static bool
find_no_process(Slot *slot)
{
	bool lasts;

	if (slot->short_since == 0)
		slot->short_since = slot->started_at;
	lasts = TimestampDifferenceExceeds(slot->short_since, slot->started_at, SHORT_MS);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	set_slot_state(slot, LAUNCHER_NO_SLOT);
	slot->since = slot->short_since;
	slot->restart_at = TimestampTzPlusMilliseconds(slot->started_at, lasts ? MAX_DELAY_MS : SHORT_MS + 100);
	LWLockRelease(shared->lock);
	return lasts;
}

/* Forgets workers that have ended.  True if there were any. */
static bool
reap_workers(void)
{
	bool any = false;

	for (int i = 0; i < shared->nslots; i++)
	{
		pid_t pid;

		/* that of one that never began is wanted yet */
		if (handles[i] == NULL || shared->slots[i].state == LAUNCHER_STARTING ||
			GetBackgroundWorkerPid(handles[i], &pid) != BGWH_STOPPED)
			continue;
		pfree(handles[i]);
		handles[i] = NULL;
		any = true;
	}
	return any;
}

/* A worker has ended: who waited for a process may have that. */
static void
end_shortage(void)
{
	bool any = false;
	bool ended = reap_workers();

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
	{
		Slot *slot = &shared->slots[i];

		if (!OidIsValid(slot->dboid) || slot->state != LAUNCHER_NO_SLOT)
			continue;
		any = true;
		if (ended)
			slot->restart_at = GetCurrentTimestamp();
	}
	LWLockRelease(shared->lock);
	if (!any)
		out_of_slots_reported = false;
}

static void
start_worker(int i, const char *name)
{
	Slot				   *slot = &shared->slots[i];
	BackgroundWorker		worker;
	BackgroundWorkerHandle *handle = NULL;
	MemoryContext			old;
	bool					registered;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot->generation++;
	slot->recheck = false;
	slot->started_at = GetCurrentTimestamp();
	set_slot_state(slot, LAUNCHER_STARTING);
	fill_worker(&worker, i, slot->dboid, slot->generation, name);
	LWLockRelease(shared->lock);

	old = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(old);
	if (handles[i])
		pfree(handles[i]);
	handles[i] = registered ? handle : NULL;
	if (registered)
	{
		slot->short_since = 0;
		slot->restarts++;
	}
	else if (find_no_process(slot))
		report_shortage(name);
}

/* Registered, but the process never came: fork failed, or it died at once. */
static bool
start_failed(int i, TimestampTz now)
{
	Slot *slot = &shared->slots[i];
	pid_t pid;

	if (slot->state != LAUNCHER_STARTING || slot->worker)
		return false;
	if (handles[i])
		return GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED;
	return TimestampDifferenceExceeds(slot->started_at, now, START_MS);
}

/* When a worker that has ended may start again. Caller holds the lock. */
static void
schedule_restart(Slot *slot, TimestampTz now)
{
	int64 delay = MIN_DELAY_MS;

	if (TimestampDifferenceExceeds(slot->started_at, now, STEADY_MS))
		slot->failures = 0;
	for (int n = 0; n < slot->failures && delay < MAX_DELAY_MS; n++)
		delay *= 2;
	slot->failures++;
	slot->restart_at = Max(slot->started_at + Min(delay, MAX_DELAY_MS) * 1000, now + PAUSE_MS * INT64CONST(1000));
	set_slot_state(slot, LAUNCHER_WAITING);
}

/*
 * Brings one slot a step forward, except for the start itself.  Returns when
 * it is due to start, DT_NOEND if nothing is to be done but wait for a signal.
 */
static TimestampTz
tend_slot(int i, bool wanted, TimestampTz now)
{
	Slot	   *slot = &shared->slots[i];
	TimestampTz due = DT_NOEND;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (slot->worker && !wanted && slot->state != LAUNCHER_STOPPING)
	{
		kill(slot->worker_pid, SIGTERM);
		set_slot_state(slot, LAUNCHER_STOPPING);
	}
	else if (slot->worker == NULL && !end_planners(slot))
	{
		if (slot->state == LAUNCHER_EXITED || start_failed(i, now))
			schedule_restart(slot, now);
		if (!wanted && slot->state != LAUNCHER_STARTING)
			slot->dboid = InvalidOid;
		else if (slot->state == LAUNCHER_ABSENT)
			due = slot->recheck ? now : slot->since + ABSENT_MS * INT64CONST(1000);
		else if (slot->state == LAUNCHER_STARTING)
			due = DT_NOEND;
		else
			due = slot->restart_at;
	}
	if (due != DT_NOEND)
		due = Max(due, slot->aside_until);
	LWLockRelease(shared->lock);
	return due;
}

/* After a reload: whoever waits, waits no longer. */
static void
end_waits(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
	{
		Slot *slot = &shared->slots[i];

		slot->recheck = true;
		slot->failures = 0;
		slot->restart_at = Min(slot->restart_at, GetCurrentTimestamp());
	}
	LWLockRelease(shared->lock);
}

/* One look at everything.  Returns for how many milliseconds all is well. */
static long
look(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	List	   *targets = read_list();

	if (targets != NIL)
		resolve_targets(targets);
	assign_slots(targets);
	report_obstacles(targets);
	end_shortage();
	next = now + (targets != NIL ? LOOK_MS : 10 * LOOK_MS) * INT64CONST(1000);
	for (int i = 0; i < shared->nslots; i++)
	{
		const char *name;
		TimestampTz due;

		if (!OidIsValid(shared->slots[i].dboid))
			continue;
		name = target_name(targets, shared->slots[i].dboid);
		due = tend_slot(i, name != NULL, now);
		if (name != NULL && due <= now)
			start_worker(i, name);
		else
			next = Min(next, due);
	}
	return TimestampDifferenceMilliseconds(now, next) + 1;
}

/* ----------------------------------------------------------------
 * The launcher: the process
 * ----------------------------------------------------------------
 */

static void
detach_launcher(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->launcher == MyProc)
	{
		shared->launcher = NULL;
		shared->launcher_pid = 0;
	}
	LWLockRelease(shared->lock);
}

static void
attach_launcher(void)
{
	before_shmem_exit(detach_launcher, (Datum) 0);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher = MyProc;
	shared->launcher_pid = MyProcPid;
	LWLockRelease(shared->lock);
	handles = MemoryContextAllocZero(TopMemoryContext, shared->nslots * sizeof(BackgroundWorkerHandle *));
	look_context = AllocSetContextCreate(TopMemoryContext, "pgsync_itsm launcher", ALLOCSET_DEFAULT_SIZES);
}

void
launcher_main(Datum arg)
{
	uint32 wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	attach_launcher();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_activity(STATE_IDLE, "pgsync_itsm: watching its workers");
	wait_event = compat_wait_event("PgsyncItsmLauncher");
	forget_reports();

	for (;;)
	{
		long timeout;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			forget_reports();
			end_waits();
		}
		MemoryContextSwitchTo(look_context);
		timeout = look();
		MemoryContextReset(look_context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, wait_event);
		ResetLatch(MyLatch);
	}
}

static void
register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, "pgsync_itsm", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "pgsync_itsm launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pgsync_itsm launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

void
launcher_init(void)
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = launcher_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = launcher_shmem_startup;
	RegisterXactCallback(launcher_xact_callback, NULL);
	aside_init();
	register_launcher();
}

/* ----------------------------------------------------------------
 * What operators see
 * ----------------------------------------------------------------
 */

#define STATE_COLUMNS 17

static void
put_time(TimestampTz at, Datum *value, bool *isnull)
{
	*value = TimestampTzGetDatum(at);
	*isnull = at == 0;
}

static void
put_pid(pid_t pid, Datum *value, bool *isnull)
{
	*value = Int32GetDatum(pid);
	*isnull = pid == 0;
}

static void
put_number(int64 number, Datum *value, bool *isnull)
{
	*value = Int64GetDatum(number);
	*isnull = number == 0;
}

/* A message may quote a statement of ours, so it is for superusers. */
static void
put_slot(const Slot *slot, Datum *values, bool *nulls)
{
	memset(nulls, 0, STATE_COLUMNS * sizeof(bool));
	values[0] = ObjectIdGetDatum(slot->dboid);
	values[1] = CStringGetTextDatum(state_names[slot->state]);
	put_time(slot->since, &values[2], &nulls[2]);
	put_pid(slot->worker_pid, &values[3], &nulls[3]);
	values[4] = Int32GetDatum(slot->in_flight);
	values[5] = Int64GetDatum(Max(slot->restarts, 0));
	put_time(slot->last_cycle, &values[6], &nulls[6]);
	put_time(slot->oldest_change, &values[7], &nulls[7]);
	put_time(slot->last_error_at, &values[8], &nulls[8]);
	nulls[9] = nulls[10] = slot->last_error_at == 0;
	if (!nulls[9])
	{
		values[9] = CStringGetTextDatum(unpack_sql_state(slot->last_error_code));
		values[10] = CStringGetTextDatum(slot->last_error);
		nulls[10] = !superuser();
	}
	for (int lane = 0; lane < PLANNER_LANES; lane++)
	{
		int column = 11 + 3 * lane;

		put_pid(slot->seats[lane].pid, &values[column], &nulls[column]);
		put_number(slot->seats[lane].run, &values[column + 1], &nulls[column + 1]);
		put_time(slot->seats[lane].since, &values[column + 2], &nulls[column + 2]);
	}
}

PG_FUNCTION_INFO_V1(pgsync_itsm_worker_state);
Datum
pgsync_itsm_worker_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; shared && i < shared->nslots; i++)
	{
		Slot  copy;
		Datum values[STATE_COLUMNS];
		bool  nulls[STATE_COLUMNS];

		LWLockAcquire(shared->lock, LW_SHARED);
		memcpy(&copy, &shared->slots[i], offsetof(Slot, wake));
		LWLockRelease(shared->lock);
		if (!OidIsValid(copy.dboid))
			continue;
		put_slot(&copy, values, nulls);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(pgsync_itsm_launcher_pid);
Datum
pgsync_itsm_launcher_pid(PG_FUNCTION_ARGS)
{
	pid_t pid = 0;

	if (shared)
	{
		LWLockAcquire(shared->lock, LW_SHARED);
		pid = shared->launcher_pid;
		LWLockRelease(shared->lock);
	}
	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}

/* For a backend: cancels this database's plan if it is this run's; true if so. */
PG_FUNCTION_INFO_V1(pgsync_itsm_cancel_planner);
Datum
pgsync_itsm_cancel_planner(PG_FUNCTION_ARGS)
{
	int64 run_id = PG_GETARG_INT64(0);
	bool  cancelled = false;

	if (shared)
	{
		Slot *slot;

		LWLockAcquire(shared->lock, LW_SHARED);
		slot = find_slot(MyDatabaseId);
		cancelled = slot && cancel_planner(slot, run_id);
		LWLockRelease(shared->lock);
	}
	PG_RETURN_BOOL(cancelled);
}

/* Is a planner of this database, other than this process, at the run? */
PG_FUNCTION_INFO_V1(pgsync_itsm_is_planned);
Datum
pgsync_itsm_is_planned(PG_FUNCTION_ARGS)
{
	int64 run_id = PG_GETARG_INT64(0);
	bool  planned = false;

	if (shared)
	{
		Slot *slot;

		LWLockAcquire(shared->lock, LW_SHARED);
		slot = find_slot(MyDatabaseId);
		planned = slot && is_planned(slot, run_id);
		LWLockRelease(shared->lock);
	}
	PG_RETURN_BOOL(planned);
}

/* For a planner: was it asked to leave this run, as others wait? */
PG_FUNCTION_INFO_V1(pgsync_itsm_planner_yields);
Datum
pgsync_itsm_planner_yields(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(launcher_planner_yields(PG_GETARG_INT64(0)));
}

/* Does the list of databases hold this one? */
PG_FUNCTION_INFO_V1(pgsync_itsm_is_listed);
Datum
pgsync_itsm_is_listed(PG_FUNCTION_ARGS)
{
	char	 *name = get_database_name(MyDatabaseId);
	ListCell *cell;

	foreach (cell, pgsync_itsm_database_list())
		if (name && strcmp(lfirst(cell), name) == 0)
			PG_RETURN_BOOL(true);
	PG_RETURN_BOOL(false);
}

PG_FUNCTION_INFO_V1(pgsync_itsm_preloaded);
Datum
pgsync_itsm_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(shared != NULL);
}
