/*
 * trigger.c
 *	  Notes the keys of changed rows and appends them to the queue before the
 *	  user's transaction commits.
 *
 * Evaluates nothing that a user wrote and reads no user table.  When it cannot
 * tell what changed, it says "everything".  Keys are gathered in memory, each
 * once, and written in one go at PRE_COMMIT or PRE_PREPARE, as the owner of the
 * extension; a key that a rolled-back savepoint left behind is harmless.  The
 * append is as hard as any AFTER trigger: if it fails, so does the transaction.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "launcher.h"
#include "trigger.h"

PG_FUNCTION_INFO_V1(trigger_queue_change);

#define KEYS_PER_QUEUE_ROW 1000
#define KEYS_AT_MOST 100000 /* beyond: "everything", except for what was deleted */
#define PARTS_AT_MOST 4

#define OP_INSERT 'i'
#define OP_UPDATE 'u'
#define OP_DELETE 'd'
#define OP_TRUNCATE 't' /* of which rows cannot be said */

/* Trigger arguments, resolved against the table ------------------------------ */

typedef struct KeyColumn
{
	char	  *name;	   /* as in integration_watches.key_column */
	bool	   everything; /* '*' */
	bool	   missing;	   /* a column of it is gone */
	int		   nparts;
	AttrNumber parts[PARTS_AT_MOST];
	FmgrInfo   output[PARTS_AT_MOST];
} KeyColumn;

/* Lives as long as the backend; resolved again when the table was changed. */
typedef struct TriggerPlan
{
	Oid			  trigger; /* hash key */
	Oid			  relation;
	bool		  valid;
	bool		  some_watched; /* false: every column counts */
	MemoryContext context;
	AttrNumber	  namespace_column; /* 0: none */
	int			  nkeys;
	KeyColumn	 *keys;
	int			  nwatched;
	AttrNumber	 *watched;
} TriggerPlan;

/* Keys of one transaction ---------------------------------------------------- */

typedef struct KeyEntry
{
	char  *key;
	uint32 hash;
	char   status;
} KeyEntry;

#define SH_PREFIX keyset
#define SH_ELEMENT_TYPE KeyEntry
#define SH_KEY_TYPE char *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), (int) strlen(key))
#define SH_EQUAL(tb, a, b) (strcmp((a), (b)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* What a queue row says beside its keys; all bytes are compared. */
typedef struct ChangeId
{
	Oid		  relation;
	Oid		  trigger;
	int32	  key; /* which of the trigger's key columns, -1 for OP_TRUNCATE */
	int32	  op;
	int32	  has_namespace;
	pg_uuid_t namespace_id;
} ChangeId;

typedef struct ChangeSet
{
	ChangeId	 id;		 /* hash key */
	char		*key_column; /* NULL for OP_TRUNCATE */
	bool		 overflown;
	keyset_hash *known;
	char	   **keys; /* in the order in which they came */
	int			 nkeys;
	int			 allocated;
} ChangeSet;

typedef struct Changes
{
	MemoryContext context;
	Oid			  function;
	Oid			  owner;
	bool		  wanted;
	bool		  written; /* PRE_COMMIT is behind us */
	HTAB		 *sets;
	List		 *order;
} Changes;

static HTAB		 *plans = NULL;
static Changes	 *changes = NULL; /* of this transaction; lives in TopTransactionContext */
static SPIPlanPtr wants_plan = NULL;
static SPIPlanPtr enqueue_plan = NULL;

/* Writing --------------------------------------------------------------------- */

static SPIPlanPtr
kept_plan(SPIPlanPtr *plan, const char *query, int nargs, Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr fresh = SPI_prepare(query, nargs, types);

		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "could not prepare \"%s\"", query);
		*plan = fresh;
	}
	return *plan;
}

static void
write_row(const ChangeSet *set, int first, int count)
{
	Oid	   types[] = {OIDOID, CHAROID, TEXTOID, TEXTARRAYOID, UUIDOID};
	Datum *keys = palloc(sizeof(Datum) * (count + 1));
	bool   no_column = set->key_column == NULL || set->overflown;
	Datum  values[5];
	char   nulls[5] = {' ', ' ', no_column ? 'n' : ' ', ' ', set->id.has_namespace ? ' ' : 'n'};
	int	   i;

	for (i = 0; i < count; i++)
		keys[i] = CStringGetTextDatum(set->keys[first + i]);
	values[0] = ObjectIdGetDatum(set->id.relation);
	values[1] = CharGetDatum(set->overflown ? OP_TRUNCATE : (char) set->id.op);
	values[2] = no_column ? (Datum) 0 : CStringGetTextDatum(set->key_column);
	values[3] = PointerGetDatum(construct_array(keys, count, TEXTOID, -1, false, TYPALIGN_INT));
	values[4] = UUIDPGetDatum(&set->id.namespace_id);
	if (SPI_execute_plan(
			kept_plan(&enqueue_plan, "SELECT pgsync_itsm.enqueue($1, $2, $3, $4, $5)", lengthof(types), types), values,
			nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not append to integration_queue");
}

static void
write_set(const ChangeSet *set)
{
	int first;

	if (set->overflown || set->key_column == NULL)
		write_row(set, 0, 0);
	else
		for (first = 0; first < set->nkeys; first += KEYS_PER_QUEUE_ROW)
			write_row(set, first, Min(KEYS_PER_QUEUE_ROW, set->nkeys - first));
}

/* Appends to the queue what was noted, unless the extension was dropped meanwhile. */
static void
write_changes(void)
{
	Oid		  user;
	int		  sec_context;
	ListCell *cell;

	changes->written = true;
	if (changes->order == NIL || !SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(changes->function)))
		return;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(changes->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	foreach (cell, changes->order)
		write_set(lfirst(cell));
	SetUserIdAndSecContext(user, sec_context);
	PopActiveSnapshot();
	SPI_finish();
	changes->order = NIL;
	hash_destroy(changes->sets);
	changes->sets = NULL;
	launcher_wake_at_commit();
}

static void
transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (changes != NULL && changes->wanted)
				write_changes();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			changes = NULL; /* its memory goes with the transaction */
			break;
		default:
			break;
	}
}

/* Noting ---------------------------------------------------------------------- */

/* Does any connection follow changes?  Asked with the newest snapshot, once a transaction. */
static bool
ask_wanted(Oid owner)
{
	Oid	 user;
	int	 sec_context;
	bool isnull;
	bool wanted;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute_plan(kept_plan(&wants_plan, "SELECT pgsync_itsm.wants_changes()", 0, NULL), NULL, NULL, true, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "wants_changes failed");
	wanted = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SetUserIdAndSecContext(user, sec_context);
	PopActiveSnapshot();
	SPI_finish();
	return wanted;
}

static Oid
function_owner(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
begin_changes(Oid function)
{
	Oid	 owner = function_owner(function);
	bool wanted = ask_wanted(owner);

	changes = MemoryContextAllocZero(TopTransactionContext, sizeof(Changes));
	changes->context = AllocSetContextCreate(TopTransactionContext, "pgsync_itsm changes", ALLOCSET_DEFAULT_SIZES);
	changes->function = function;
	changes->owner = owner;
	changes->wanted = wanted;
}

static ChangeSet *
find_set(const ChangeId *id, const char *key_column)
{
	ChangeSet *set;
	bool	   found;

	if (changes->sets == NULL)
	{
		HASHCTL control = {.keysize = sizeof(ChangeId), .entrysize = sizeof(ChangeSet), .hcxt = changes->context};

		changes->sets = hash_create("pgsync_itsm changes", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	set = hash_search(changes->sets, id, HASH_ENTER, &found);
	if (!found)
	{
		MemoryContext old = MemoryContextSwitchTo(changes->context);

		set->key_column = key_column ? pstrdup(key_column) : NULL;
		set->overflown = false;
		set->known = keyset_create(changes->context, 16, NULL);
		set->allocated = 16;
		set->keys = palloc(sizeof(char *) * set->allocated);
		set->nkeys = 0;
		changes->order = lappend(changes->order, set);
		MemoryContextSwitchTo(old);
	}
	return set;
}

static void
add_key(ChangeSet *set, char *key)
{
	KeyEntry *entry;
	bool	  found;

	if (set->overflown)
		return;
	if (set->nkeys >= KEYS_AT_MOST && set->id.op != OP_DELETE)
	{
		set->overflown = true;
		return;
	}
	entry = keyset_insert(set->known, key, &found);
	if (found)
		return;
	entry->key = MemoryContextStrdup(changes->context, key);
	if (set->nkeys == set->allocated)
	{
		set->allocated *= 2;
		set->keys = repalloc_huge(set->keys, sizeof(char *) * set->allocated);
	}
	set->keys[set->nkeys++] = entry->key;
}

/* A key of the row in slot; without key column: that of which rows cannot be said. */
static void
note(const TriggerPlan *plan, TupleTableSlot *slot, char op, const KeyColumn *column, char *key)
{
	ChangeId id;

	memset(&id, 0, sizeof(id));
	id.relation = plan->relation;
	id.trigger = plan->trigger;
	id.key = column ? (int32) (column - plan->keys) : -1;
	id.op = (unsigned char) op;
	if (slot && plan->namespace_column != 0 && !slot->tts_isnull[plan->namespace_column - 1])
	{
		id.has_namespace = 1;
		id.namespace_id = *DatumGetUUIDP(slot->tts_values[plan->namespace_column - 1]);
	}
	if (column)
		add_key(find_set(&id, column->name), key);
	else
		(void) find_set(&id, NULL);
}

/* Text of a composite key's part: without the blanks around it that a source removes, too. */
static void
append_part(StringInfo key, char *part)
{
	size_t length = strlen(part);

	while (length > 0 && part[length - 1] == ' ')
		length--;
	while (length > 0 && *part == ' ')
	{
		part++;
		length--;
	}
	appendBinaryStringInfo(key, part, (int) length);
}

/* A row's key as text; NULL if it has none, which means that it concerns no record. */
static char *
key_text(KeyColumn *key, TupleTableSlot *slot)
{
	StringInfoData result;
	int			   i;
	int			   last = key->parts[key->nparts - 1] - 1;

	if (slot->tts_isnull[last])
		return NULL;
	if (key->nparts == 1)
		return OutputFunctionCall(&key->output[0], slot->tts_values[last]);
	initStringInfo(&result);
	for (i = 0; i < key->nparts; i++)
	{
		int column = key->parts[i] - 1;

		if (i > 0)
			appendStringInfoChar(&result, '/');
		if (!slot->tts_isnull[column])
			append_part(&result, OutputFunctionCall(&key->output[i], slot->tts_values[column]));
	}
	return result.data;
}

static bool
concerns_everything(const KeyColumn *key, TupleTableSlot *slot)
{
	int i;

	for (i = 0; i < key->nparts; i++)
		if (slot->tts_isnull[key->parts[i] - 1])
			return true;
	return key->nparts == 0;
}

static void
note_row(TriggerPlan *plan, KeyColumn *key, TupleTableSlot *slot, char op)
{
	char *text;

	if (key->missing)
		note(plan, NULL, OP_TRUNCATE, NULL, NULL);
	else if (key->everything)
	{
		if (concerns_everything(key, slot))
			note(plan, slot, op, key, "*");
	}
	else if ((text = key_text(key, slot)) != NULL)
		note(plan, slot, op, key, text);
}

/* Comparing ------------------------------------------------------------------- */

/* Byte by byte, out-of-line values by their pointers: what differs so may be equal, and is noted in vain. */
static bool
column_changed(AttrNumber column, TupleTableSlot *old, TupleTableSlot *new)
{
	Form_pg_attribute attribute = TupleDescAttr(new->tts_tupleDescriptor, column - 1);
	int				  i = column - 1;

	if (old->tts_isnull[i] || new->tts_isnull[i])
		return old->tts_isnull[i] != new->tts_isnull[i];
	return !datumIsEqual(old->tts_values[i], new->tts_values[i], attribute->attbyval, attribute->attlen);
}

static bool
key_changed(const KeyColumn *key, TupleTableSlot *old, TupleTableSlot *new)
{
	int i;

	for (i = 0; !key->missing && i < key->nparts; i++)
		if (column_changed(key->parts[i], old, new))
			return true;
	return false;
}

static bool
row_changed(const TriggerPlan *plan, TupleTableSlot *old, TupleTableSlot *new)
{
	int i;

	for (i = 0; i < plan->nwatched; i++)
		if (column_changed(plan->watched[i], old, new))
			return true;
	for (i = 0; i < plan->nkeys; i++)
		if (key_changed(&plan->keys[i], old, new))
			return true;
	return false;
}

static void
note_update(TriggerPlan *plan, TupleTableSlot *old, TupleTableSlot *new)
{
	bool moved;
	int	 i;

	slot_getallattrs(old);
	slot_getallattrs(new);
	if (!row_changed(plan, old, new))
		return;
	moved = plan->namespace_column != 0 && column_changed(plan->namespace_column, old, new);
	for (i = 0; i < plan->nkeys; i++)
	{
		if (key_changed(&plan->keys[i], old, new))
			note_row(plan, &plan->keys[i], old, OP_DELETE);
		else if (moved)
			note_row(plan, &plan->keys[i], old, OP_UPDATE);
		note_row(plan, &plan->keys[i], new, OP_UPDATE);
	}
}

/* A row that came or went.  Where only some columns count, * is about those, and not about rows that come and go. */
static void
note_one(TriggerPlan *plan, TupleTableSlot *slot, char op)
{
	int i;

	slot_getallattrs(slot);
	for (i = 0; i < plan->nkeys; i++)
		if (!(plan->keys[i].everything && plan->keys[i].nparts == 0 && plan->some_watched))
			note_row(plan, &plan->keys[i], slot, op);
}

/* Resolving ------------------------------------------------------------------- */

static void
forget_plans(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS scan;
	TriggerPlan	   *plan;

	hash_seq_init(&scan, plans);
	while ((plan = hash_seq_search(&scan)) != NULL)
		if (relation == InvalidOid || plan->relation == relation)
			plan->valid = false;
}

/* Once a backend, when the first watched row changes. */
static void
initialize(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(TriggerPlan)};

	plans = hash_create("pgsync_itsm triggers", 32, &control, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(forget_plans, (Datum) 0);
	RegisterXactCallback(transaction_event, NULL);
}

/* 0 if the table has no such column. */
static AttrNumber
find_column(TupleDesc desc, const char *name)
{
	int number = SPI_fnumber(desc, name);

	return number > 0 ? (AttrNumber) number : 0;
}

static void
resolve_key(KeyColumn *key, const char *argument, TupleDesc desc)
{
	char *rest = pstrdup(argument);
	char *part;

	key->name = pstrdup(argument);
	key->everything = argument[0] == '*';
	if (key->everything && *++rest == '\0')
		return;
	while (!key->missing && (part = strsep(&rest, "/")) != NULL)
	{
		AttrNumber column = find_column(desc, part);
		Oid		   output;
		bool	   is_varlena;

		key->missing = column == 0 || key->nparts == PARTS_AT_MOST;
		if (key->missing)
			break;
		getTypeOutputInfo(TupleDescAttr(desc, column - 1)->atttypid, &output, &is_varlena);
		fmgr_info(output, &key->output[key->nparts]);
		key->parts[key->nparts++] = column;
	}
}

static void
watch_all(TriggerPlan *plan, TupleDesc desc)
{
	int i;

	for (i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			plan->watched[plan->nwatched++] = (AttrNumber) (i + 1);
}

/* Arguments: @namespace column, key columns, |, watched columns; a watched column that is gone is none. */
static void
resolve_arguments(TriggerPlan *plan, const Trigger *trigger, TupleDesc desc)
{
	int i;

	plan->keys = palloc0(sizeof(KeyColumn) * (trigger->tgnargs + 1));
	plan->watched = palloc0(sizeof(AttrNumber) * (trigger->tgnargs + desc->natts + 1));
	for (i = 0; i < trigger->tgnargs; i++)
	{
		const char *argument = trigger->tgargs[i];
		AttrNumber	column;

		if (plan->some_watched)
		{
			column = find_column(desc, argument);
			if (column != 0)
				plan->watched[plan->nwatched++] = column;
		}
		else if (strcmp(argument, "|") == 0)
			plan->some_watched = true;
		else if (argument[0] == '@')
		{
			column = find_column(desc, argument + 1);
			if (column != 0 && TupleDescAttr(desc, column - 1)->atttypid == UUIDOID)
				plan->namespace_column = column;
		}
		else
			resolve_key(&plan->keys[plan->nkeys++], argument, desc);
	}
	if (!plan->some_watched)
		watch_all(plan, desc);
}

static TriggerPlan *
find_plan(const TriggerData *data)
{
	Oid			  relation = RelationGetRelid(data->tg_relation);
	TriggerPlan	 *plan;
	MemoryContext old;
	bool		  found;

	plan = hash_search(plans, &data->tg_trigger->tgoid, HASH_ENTER, &found);
	if (found && plan->valid && plan->relation == relation)
		return plan;
	if (found && plan->context)
		MemoryContextDelete(plan->context);
	memset((char *) plan + sizeof(Oid), 0, sizeof(TriggerPlan) - sizeof(Oid));
	plan->relation = relation;
	plan->context = AllocSetContextCreate(TopMemoryContext, "pgsync_itsm trigger", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(plan->context);
	resolve_arguments(plan, data->tg_trigger, RelationGetDescr(data->tg_relation));
	MemoryContextSwitchTo(old);
	plan->valid = true;
	return plan;
}

static void
note_event(TriggerData *data)
{
	TriggerPlan *plan = find_plan(data);

	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		note_one(plan, data->tg_trigslot, OP_INSERT);
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		note_one(plan, data->tg_trigslot, OP_DELETE);
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		note_update(plan, data->tg_trigslot, data->tg_newslot);
	else
		note(plan, NULL, OP_TRUNCATE, NULL, NULL);
}

/*
 * pgsync_itsm.queue_change(): see trigger.h.  Arguments of the trigger: the
 * namespace column with @ before it, if any; key columns (a/b: two as one key;
 * *: whatever changes concerns the whole entity type; *a/b: so if a or b is
 * NULL); then, after |, the columns whose change counts.
 */
Datum
trigger_queue_change(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		(!TRIGGER_FIRED_FOR_ROW(data->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("pgsync_itsm.queue_change() must be called by an AFTER trigger, for each row or for TRUNCATE"),
				 errhint("SELECT itsm_watch('table', 'entity type', 'key column'); makes such triggers.")));
	if (plans == NULL)
		initialize();
	if (changes == NULL)
		begin_changes(fcinfo->flinfo->fn_oid);
	if (changes->wanted)
	{
		note_event(data);
		if (changes->written) /* by a commit callback that came after ours */
			write_changes();
	}
	return PointerGetDatum(NULL);
}
