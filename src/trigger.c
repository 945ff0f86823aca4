/*
 * trigger.c
 *	  Notes the keys of changed rows and appends them to the queue before the
 *	  user's transaction commits.
 *
 * Evaluates nothing that a user wrote and reads no user table.  When it cannot
 * tell what changed, it says "everything".  Keys are gathered in memory, each
 * once, and written in one go at PRE_COMMIT or PRE_PREPARE; a key that a
 * rolled-back savepoint left behind is harmless.  The append is as hard as any
 * AFTER trigger: if it fails, so does the transaction.
 *
 * What a row's own key says of a row that goes is noted if its namespace has
 * any connection, for each of them retires what was deleted; everything else
 * only if one of them follows changes.
 *
 * Every change of the portfolio pays for what happens here.  So the queue is
 * written, and the connections are looked at, without a statement: no rights
 * are asked of the user, no plan is made, nothing shows in pg_stat_statements.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "compat.h"
#include "launcher.h"
#include "trigger.h"

PG_FUNCTION_INFO_V1(trigger_queue_change);

#define KEYS_PER_QUEUE_ROW 1000
#define KEYS_AT_MOST 100000 /* beyond: "everything", except for what was deleted */
#define PARTS_AT_MOST 4
#define ARENA_SIZE 8192
#define UUID_TEXT_LEN 36

/* Columns of integration_queue; see 10_tables.sql. */
#define QUEUE_ID 1
#define QUEUE_RELATION 2
#define QUEUE_OP 3
#define QUEUE_KEY_COLUMN 4
#define QUEUE_KEYS 5
#define QUEUE_NAMESPACE_ID 6
#define QUEUE_XID 7
#define QUEUE_AT 8
#define QUEUE_COLUMNS 8

/* An id is the transaction's, and which of its rows this is. */
#define QUEUE_ID_BITS 20
#define QUEUE_ROWS_COUNTED ((UINT64CONST(1) << QUEUE_ID_BITS) - 1)

#define OP_INSERT 'i'
#define OP_UPDATE 'u'
#define OP_DELETE 'd'
#define OP_TRUNCATE 't' /* of which rows cannot be said */

typedef struct ChangeSet ChangeSet;

/* Trigger arguments, resolved against the table ------------------------------ */

typedef struct KeyColumn
{
	char	  *name;	   /* as in integration_watches.key_column */
	bool	   everything; /* '*' */
	bool	   missing;	   /* a column of it is gone */
	bool	   own;		   /* the primary key: a row that goes is a record that goes; see is_own_key() */
	int		   nparts;
	AttrNumber parts[PARTS_AT_MOST];
	Oid		   types[PARTS_AT_MOST];
	FmgrInfo   output[PARTS_AT_MOST];
	ChangeSet *recent; /* where the last key went, in transaction number recent_in */
	uint64	   recent_in;
} KeyColumn;

/* Lives as long as the backend; resolved again when the table was changed. */
typedef struct TriggerPlan
{
	Oid			  trigger; /* hash key */
	Oid			  relation;
	bool		  valid;
	bool		  some_watched; /* false: every column counts */
	bool		  some_own;
	MemoryContext context;
	AttrNumber	  namespace_column; /* 0: none */
	AttrNumber	  last_column;		/* nothing behind it is looked at */
	int			  nkeys;
	KeyColumn	 *keys;
	int			  nwatched;
	AttrNumber	 *watched;
	int			  nquiet;
	AttrNumber	 *quiet; /* count as well, but not for the key * */
} TriggerPlan;

/* Keys of one transaction ---------------------------------------------------- */

/* Keys are texts, as the array will hold them. */
typedef struct KeyEntry
{
	text  *key;
	uint32 hash;
	char   status;
} KeyEntry;

#define SH_PREFIX keyset
#define SH_ELEMENT_TYPE KeyEntry
#define SH_KEY_TYPE text *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) VARDATA(key), (int) (VARSIZE(key) - VARHDRSZ))
#define SH_EQUAL(tb, a, b) (VARSIZE(a) == VARSIZE(b) && memcmp(VARDATA(a), VARDATA(b), VARSIZE(a) - VARHDRSZ) == 0)
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

struct ChangeSet
{
	ChangeId	 id;
	char		*key_column; /* NULL for OP_TRUNCATE */
	bool		 wanted;	 /* false: no connection of the namespace is to know */
	bool		 overflown;
	keyset_hash *known;
	text	   **keys; /* in the order in which they came */
	int			 nkeys;
	int			 allocated;
};

typedef struct SetEntry
{
	ChangeId   id;
	ChangeSet *set;
	uint32	   hash;
	char	   status;
} SetEntry;

#define SH_PREFIX setmap
#define SH_ELEMENT_TYPE SetEntry
#define SH_KEY_TYPE ChangeId
#define SH_KEY id
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) &(key), sizeof(ChangeId))
#define SH_EQUAL(tb, a, b) (memcmp(&(a), &(b), sizeof(ChangeId)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Changes
{
	MemoryContext context;
	Oid			  function;
	bool		  followed;	 /* a connection follows changes */
	bool		  asked;	 /* is connected known? */
	bool		  connected; /* there is a connection, which is to know what was deleted */
	bool		  written;	 /* PRE_COMMIT is behind us */
	setmap_hash	 *sets;
	List		 *order;
	uint64		  rows; /* appended so far */
	char		 *arena;
	Size		  arena_left;
} Changes;

/* Our own relations, as pgsync_itsm.queue_relations() names them: once a backend, and when one of them was changed. */
typedef struct Relations
{
	Oid	 function; /* of this extension; another one after DROP and CREATE EXTENSION */
	bool valid;
	Oid	 queue;
	Oid	 connections;
	Oid	 followers; /* index of the connections that follow changes, by namespace */
	Oid	 all;		/* index of all connections, by namespace */
} Relations;

static HTAB		*plans = NULL;
static Changes	*changes = NULL; /* of this transaction; lives in TopTransactionContext */
static uint64	 transaction = 0;
static Relations relations;

/* Our own relations ------------------------------------------------------------ */

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
ask_relations(Oid *found, int nfound)
{
	bool	   isnull;
	ArrayType *array;

	if (SPI_execute("SELECT pgsync_itsm.queue_relations()", true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "queue_relations failed");
	array = DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (isnull || ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != nfound || ARR_HASNULL(array))
		elog(ERROR, "unexpected answer of queue_relations");
	memcpy(found, ARR_DATA_PTR(array), sizeof(Oid) * nfound);
}

static void
find_relations(Oid function)
{
	Oid user;
	int sec_context;
	Oid found[4];

	if (relations.valid && relations.function == function)
		return;
	/* before anything is looked up, so that what changes meanwhile is not missed */
	relations.valid = true;
	relations.function = InvalidOid;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(function_owner(function), sec_context | SECURITY_LOCAL_USERID_CHANGE);
	ask_relations(found, lengthof(found));
	SetUserIdAndSecContext(user, sec_context);
	PopActiveSnapshot();
	SPI_finish();
	relations.queue = found[0];
	relations.connections = found[1];
	relations.followers = found[2];
	relations.all = found[3];
	relations.function = function;
}

/* Is there a connection in an index, of this namespace or (NULL) of any?  Asked with the newest snapshot. */
static bool
has_connection(Oid index, const pg_uuid_t *namespace_id)
{
	Relation	connections = table_open(relations.connections, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	if (namespace_id)
		ScanKeyInit(&key, 2, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(namespace_id));
	PushActiveSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(connections, index, true, GetActiveSnapshot(), namespace_id ? 1 : 0, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	PopActiveSnapshot();
	table_close(connections, AccessShareLock);
	return found;
}

/* Writing --------------------------------------------------------------------- */

/* The queue, open for rows to be appended. */
typedef struct Queue
{
	Relation		relation;
	EState		   *estate;
	ResultRelInfo  *info;
	TupleTableSlot *slot;
} Queue;

static void
open_queue(Queue *queue)
{
	queue->relation = table_open(relations.queue, RowExclusiveLock);
	if (RelationGetDescr(queue->relation)->natts != QUEUE_COLUMNS)
		elog(ERROR, "integration_queue has %d columns, not %d", RelationGetDescr(queue->relation)->natts,
			 QUEUE_COLUMNS);
	queue->estate = CreateExecutorState();
	queue->info = makeNode(ResultRelInfo);
	InitResultRelInfo(queue->info, queue->relation, 0, NULL, 0);
	ExecOpenIndices(queue->info, false);
	queue->slot = table_slot_create(queue->relation, NULL);
}

static void
close_queue(Queue *queue)
{
	ExecDropSingleTupleTableSlot(queue->slot);
	ExecCloseIndices(queue->info);
	FreeExecutorState(queue->estate);
	table_close(queue->relation, NoLock);
}

static ArrayType *
array_of(text **keys, int count)
{
	Size	   size = ARR_OVERHEAD_NONULLS(1);
	ArrayType *array;
	char	  *at;
	int		   i;

	if (count == 0)
		return construct_empty_array(TEXTOID);
	for (i = 0; i < count; i++)
		size += INTALIGN(VARSIZE(keys[i]));
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = TEXTOID;
	ARR_DIMS(array)[0] = count;
	ARR_LBOUND(array)[0] = 1;
	at = ARR_DATA_PTR(array);
	for (i = 0; i < count; i++)
	{
		memcpy(at, keys[i], VARSIZE(keys[i]));
		at += INTALIGN(VARSIZE(keys[i]));
	}
	return array;
}

static void
put(TupleTableSlot *slot, AttrNumber column, Datum value, bool isnull)
{
	slot->tts_values[column - 1] = value;
	slot->tts_isnull[column - 1] = isnull;
}

/* Not a sequence's next value: that would be what the user's lastval() returns after this transaction. */
static Datum
next_id(FullTransactionId xid)
{
	uint64 row = Min(changes->rows, QUEUE_ROWS_COUNTED);

	changes->rows++;
	return Int64GetDatum((int64) (U64FromFullTransactionId(xid) << QUEUE_ID_BITS | row));
}

static void
write_row(Queue *queue, const ChangeSet *set, int first, int count)
{
	FullTransactionId xid = GetTopFullTransactionId();
	bool			  no_column = set->key_column == NULL || set->overflown;
	TupleTableSlot	 *slot = queue->slot;
	MemoryContext	  old = MemoryContextSwitchTo(GetPerTupleMemoryContext(queue->estate));

	ExecClearTuple(slot);
	put(slot, QUEUE_ID, next_id(xid), false);
	put(slot, QUEUE_RELATION, ObjectIdGetDatum(set->id.relation), false);
	put(slot, QUEUE_OP, CharGetDatum(set->overflown ? OP_TRUNCATE : (char) set->id.op), false);
	put(slot, QUEUE_KEY_COLUMN, no_column ? (Datum) 0 : CStringGetTextDatum(set->key_column), no_column);
	put(slot, QUEUE_KEYS, PointerGetDatum(array_of(set->keys + first, count)), false);
	put(slot, QUEUE_NAMESPACE_ID, UUIDPGetDatum(&set->id.namespace_id), !set->id.has_namespace);
	put(slot, QUEUE_XID, FullTransactionIdGetDatum(xid), false);
	put(slot, QUEUE_AT, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()), false);
	ExecStoreVirtualTuple(slot);
	table_tuple_insert(queue->relation, slot, GetCurrentCommandId(true), 0, NULL);
	(void) compat_insert_index_tuples(queue->info, slot, queue->estate);
	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(queue->estate);
}

static void
write_set(Queue *queue, const ChangeSet *set)
{
	int first;

	if (set->overflown || set->key_column == NULL)
		write_row(queue, set, 0, 0);
	else
		for (first = 0; first < set->nkeys; first += KEYS_PER_QUEUE_ROW)
			write_row(queue, set, first, Min(KEYS_PER_QUEUE_ROW, set->nkeys - first));
}

/* Appends to the queue what was noted, unless the extension was dropped meanwhile. */
static void
write_changes(void)
{
	Queue	  queue;
	ListCell *cell;

	changes->written = true;
	if (changes->order == NIL || !SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(changes->function)))
		return;
	find_relations(changes->function);
	open_queue(&queue);
	foreach (cell, changes->order)
		write_set(&queue, lfirst(cell));
	close_queue(&queue);
	changes->order = NIL;
	changes->sets = NULL;
	transaction++; /* no key goes where the last one went */
	launcher_wake_at_commit();
}

static void
transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (changes != NULL)
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

/* Whether anybody follows changes is asked once a transaction. */
static void
begin_changes(Oid function)
{
	Changes *begun;

	find_relations(function);
	begun = MemoryContextAllocZero(TopTransactionContext, sizeof(Changes));
	begun->followed = has_connection(relations.followers, NULL);
	begun->function = function;
	begun->context = AllocSetContextCreate(TopTransactionContext, "pgsync_itsm changes", ALLOCSET_DEFAULT_SIZES);
	/* only now: an error before this may be caught, and the transaction goes on */
	changes = begun;
	transaction++;
}

/* Asked by the first row that is deleted; a transaction that deletes nothing does not ask. */
static bool
is_connected(void)
{
	if (!changes->asked)
		changes->connected = changes->followed || has_connection(relations.all, NULL);
	changes->asked = true;
	return changes->connected;
}

/* What is gone is for every connection of the namespace to know, everything else for those that follow changes. */
static bool
is_wanted(const ChangeId *id, const KeyColumn *column)
{
	bool for_all = id->op == OP_DELETE && column->own;

	if (!id->has_namespace)
		return for_all ? is_connected() : changes->followed;
	return has_connection(for_all ? relations.all : relations.followers, &id->namespace_id);
}

static ChangeSet *
make_set(const ChangeId *id, const KeyColumn *column)
{
	MemoryContext old = MemoryContextSwitchTo(changes->context);
	ChangeSet	 *set = palloc0(sizeof(ChangeSet));

	set->id = *id;
	set->key_column = column ? pstrdup(column->name) : NULL;
	set->wanted = is_wanted(id, column);
	if (set->wanted)
	{
		set->known = keyset_create(changes->context, 16, NULL);
		set->allocated = 16;
		set->keys = palloc(sizeof(text *) * set->allocated);
		changes->order = lappend(changes->order, set);
	}
	MemoryContextSwitchTo(old);
	return set;
}

static ChangeSet *
find_set(const ChangeId *id, const KeyColumn *column)
{
	SetEntry *entry;
	bool	  found;

	if (changes->sets == NULL)
		changes->sets = setmap_create(changes->context, 16, NULL);
	entry = setmap_lookup(changes->sets, *id);
	if (entry == NULL)
	{
		ChangeSet *set = make_set(id, column);

		entry = setmap_insert(changes->sets, *id, &found);
		entry->set = set;
	}
	return entry->set;
}

/* Memory for a key, without a header for each. */
static text *
keep(const text *key)
{
	Size  size = INTALIGN(VARSIZE(key));
	text *kept;

	if (size > ARENA_SIZE / 8)
		return memcpy(MemoryContextAlloc(changes->context, size), key, VARSIZE(key));
	if (size > changes->arena_left)
	{
		changes->arena = MemoryContextAlloc(changes->context, ARENA_SIZE);
		changes->arena_left = ARENA_SIZE;
	}
	kept = memcpy(changes->arena, key, VARSIZE(key));
	changes->arena += size;
	changes->arena_left -= size;
	return kept;
}

static void
add_key(ChangeSet *set, text *key)
{
	KeyEntry *entry;
	bool	  found;

	if (!set->wanted || set->overflown)
		return;
	if (set->nkeys >= KEYS_AT_MOST && set->id.op != OP_DELETE)
	{
		set->overflown = true;
		return;
	}
	entry = keyset_insert(set->known, key, &found);
	if (found)
		return;
	entry->key = keep(key);
	if (set->nkeys == set->allocated)
	{
		set->allocated *= 2;
		set->keys = repalloc_huge(set->keys, sizeof(text *) * set->allocated);
	}
	set->keys[set->nkeys++] = entry->key;
}

static void
identify(ChangeId *id, const TriggerPlan *plan, TupleTableSlot *slot, char op, const KeyColumn *column)
{
	memset(id, 0, sizeof(*id));
	id->relation = plan->relation;
	id->trigger = plan->trigger;
	id->key = column ? (int32) (column - plan->keys) : -1;
	id->op = (unsigned char) op;
	if (slot && plan->namespace_column != 0 && !slot->tts_isnull[plan->namespace_column - 1])
	{
		id->has_namespace = 1;
		id->namespace_id = *DatumGetUUIDP(slot->tts_values[plan->namespace_column - 1]);
	}
}

/* A key of the row in slot. */
static void
note_key(const TriggerPlan *plan, TupleTableSlot *slot, char op, KeyColumn *column, text *key)
{
	ChangeId id;

	identify(&id, plan, slot, op, column);
	if (column->recent_in != transaction || memcmp(&column->recent->id, &id, sizeof(id)) != 0)
	{
		column->recent = find_set(&id, column);
		column->recent_in = transaction;
	}
	add_key(column->recent, key);
}

/* That something changed of which rows cannot be said. */
static void
note_unknown(const TriggerPlan *plan)
{
	ChangeId id;

	identify(&id, plan, NULL, OP_TRUNCATE, NULL);
	(void) find_set(&id, NULL);
}

/* Keys as text ------------------------------------------------------------------ */

/* Room for a key of that length; good until the next one. */
static text *
key_buffer(Size length)
{
	static text *buffer = NULL;
	static Size	 allocated = 0;

	if (VARHDRSZ + length > allocated)
	{
		Size size = Max(VARHDRSZ + length, 256);

		if (buffer)
			pfree(buffer);
		buffer = NULL;
		allocated = 0;
		buffer = MemoryContextAlloc(TopMemoryContext, size);
		allocated = size;
	}
	SET_VARSIZE(buffer, VARHDRSZ + length);
	return buffer;
}

static text *
key_of_string(const char *string, Size length)
{
	text *key = key_buffer(length);

	memcpy(VARDATA(key), string, length);
	return key;
}

static text *
key_of_uuid(const pg_uuid_t *uuid)
{
	static const char digits[] = "0123456789abcdef";
	text			 *key = key_buffer(UUID_TEXT_LEN);
	char			 *at = VARDATA(key);
	int				  i;

	for (i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = digits[uuid->data[i] >> 4];
		*at++ = digits[uuid->data[i] & 0x0F];
	}
	return key;
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
static text *
key_text(KeyColumn *key, TupleTableSlot *slot)
{
	StringInfoData result;
	char		  *string;
	int			   i;
	int			   last = key->parts[key->nparts - 1] - 1;

	if (slot->tts_isnull[last])
		return NULL;
	if (key->nparts == 1 && key->types[0] == UUIDOID)
		return key_of_uuid(DatumGetUUIDP(slot->tts_values[last]));
	if (key->nparts == 1)
	{
		string = OutputFunctionCall(&key->output[0], slot->tts_values[last]);
		return key_of_string(string, strlen(string));
	}
	initStringInfo(&result);
	for (i = 0; i < key->nparts; i++)
	{
		int column = key->parts[i] - 1;

		if (i > 0)
			appendStringInfoChar(&result, '/');
		if (!slot->tts_isnull[column])
			append_part(&result, OutputFunctionCall(&key->output[i], slot->tts_values[column]));
	}
	return key_of_string(result.data, result.len);
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
	text *found;

	if (key->missing)
		note_unknown(plan);
	else if (key->everything)
	{
		if (concerns_everything(key, slot))
			note_key(plan, slot, op, key, key_of_string("*", 1));
	}
	else if ((found = key_text(key, slot)) != NULL)
		note_key(plan, slot, op, key, found);
}

/* Comparing ------------------------------------------------------------------- */

/* A value that came with a column's default has another header than the same value in a row. */
static inline bool
text_changed(const struct varlena *a, const struct varlena *b)
{
	if (VARATT_IS_EXTERNAL(a) || VARATT_IS_EXTERNAL(b) || VARATT_IS_COMPRESSED(a) || VARATT_IS_COMPRESSED(b))
		return VARSIZE_ANY(a) != VARSIZE_ANY(b) || memcmp(a, b, VARSIZE_ANY(a)) != 0;
	return VARSIZE_ANY_EXHDR(a) != VARSIZE_ANY_EXHDR(b) ||
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) != 0;
}

/* Byte by byte, out-of-line values by their pointers: what differs so may be equal, and is noted in vain. */
static inline bool
column_changed(AttrNumber column, TupleTableSlot *old, TupleTableSlot *new)
{
	Form_pg_attribute attribute = TupleDescAttr(new->tts_tupleDescriptor, column - 1);
	int				  i = column - 1;
	const char		 *a;
	const char		 *b;

	if (old->tts_isnull[i] || new->tts_isnull[i])
		return old->tts_isnull[i] != new->tts_isnull[i];
	if (attribute->attbyval)
		return old->tts_values[i] != new->tts_values[i];
	a = DatumGetPointer(old->tts_values[i]);
	b = DatumGetPointer(new->tts_values[i]);
	if (attribute->attlen > 0)
		return memcmp(a, b, attribute->attlen) != 0;
	if (attribute->attlen == -1)
		return text_changed((const struct varlena *) a, (const struct varlena *) b);
	return strcmp(a, b) != 0;
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
quiet_changed(const TriggerPlan *plan, TupleTableSlot *old, TupleTableSlot *new)
{
	int i;

	for (i = 0; i < plan->nquiet; i++)
		if (column_changed(plan->quiet[i], old, new))
			return true;
	return false;
}

/* Is a key about every record of an entity type, whatever the row says? */
static bool
is_about_all(const KeyColumn *key)
{
	return key->everything && key->nparts == 0;
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
	bool quiet;
	int	 i;

	slot_getsomeattrs(old, plan->last_column);
	slot_getsomeattrs(new, plan->last_column);
	quiet = !row_changed(plan, old, new);
	if (quiet && !quiet_changed(plan, old, new))
		return;
	moved = plan->namespace_column != 0 && column_changed(plan->namespace_column, old, new);
	for (i = 0; i < plan->nkeys; i++)
	{
		if (quiet && is_about_all(&plan->keys[i]))
			continue;
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

	slot_getsomeattrs(slot, plan->last_column);
	for (i = 0; i < plan->nkeys; i++)
		if (!(is_about_all(&plan->keys[i]) && plan->some_watched))
			note_row(plan, &plan->keys[i], slot, op);
}

/* Where nobody follows changes: keys of records that go, if anybody is to know. */
static void
note_gone(TriggerPlan *plan, TupleTableSlot *old, TupleTableSlot *new)
{
	int i;

	for (i = 0; i < plan->nkeys; i++)
	{
		KeyColumn *key = &plan->keys[i];

		if (!key->own)
			continue;
		slot_getsomeattrs(old, key->parts[0]);
		if (new)
			slot_getsomeattrs(new, key->parts[0]);
		if ((new && !key_changed(key, old, new)) || !is_connected())
			continue;
		/* the namespace, too */
		slot_getsomeattrs(old, plan->last_column);
		note_row(plan, key, old, OP_DELETE);
	}
}

/* Resolving ------------------------------------------------------------------- */

static void
forget(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS scan;
	TriggerPlan	   *plan;

	hash_seq_init(&scan, plans);
	while ((plan = hash_seq_search(&scan)) != NULL)
		if (relation == InvalidOid || plan->relation == relation)
			plan->valid = false;
	if (relation == InvalidOid || relation == relations.queue || relation == relations.connections ||
		relation == relations.followers || relation == relations.all)
		relations.valid = false;
}

/* Once a backend, when the first watched row changes. */
static void
initialize(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(TriggerPlan)};

	plans = hash_create("pgsync_itsm triggers", 32, &control, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
	RegisterXactCallback(transaction_event, NULL);
}

/* 0 if the table has no such column. */
static AttrNumber
find_column(TupleDesc desc, const char *name)
{
	int number = SPI_fnumber(desc, name);

	return number > 0 ? (AttrNumber) number : 0;
}

/* As pgsync_itsm.is_own_key() has it; of a partition as of its table. */
static bool
is_primary_key(Relation relation, AttrNumber column)
{
	List	 *indexes = RelationGetIndexList(relation);
	ListCell *cell;
	bool	  found = false;

	foreach (cell, indexes)
	{
		HeapTuple	  tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		found |= index->indisprimary && index->indnkeyatts == 1 && index->indkey.values[0] == column;
		ReleaseSysCache(tuple);
	}
	list_free(indexes);
	return found;
}

static void
resolve_key(KeyColumn *key, const char *argument, Relation relation)
{
	TupleDesc desc = RelationGetDescr(relation);
	char	 *rest = pstrdup(argument);
	char	 *part;

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
		key->types[key->nparts] = TupleDescAttr(desc, column - 1)->atttypid;
		key->parts[key->nparts++] = column;
	}
	key->own = !key->everything && !key->missing && key->nparts == 1 && is_primary_key(relation, key->parts[0]);
}

static void
watch_all(TriggerPlan *plan, TupleDesc desc)
{
	int i;

	for (i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			plan->watched[plan->nwatched++] = (AttrNumber) (i + 1);
}

static void
find_last_column(TriggerPlan *plan)
{
	int i;
	int k;

	plan->last_column = plan->namespace_column;
	for (i = 0; i < plan->nwatched; i++)
		plan->last_column = Max(plan->last_column, plan->watched[i]);
	for (i = 0; i < plan->nquiet; i++)
		plan->last_column = Max(plan->last_column, plan->quiet[i]);
	for (k = 0; k < plan->nkeys; k++)
		for (i = 0; i < plan->keys[k].nparts; i++)
			plan->last_column = Max(plan->last_column, plan->keys[k].parts[i]);
}

/* After a minus: one whose change does not count for the key *.  A column that is gone is none. */
static void
resolve_watched(TriggerPlan *plan, const char *argument, TupleDesc desc)
{
	bool	   quiet = argument[0] == '-';
	AttrNumber column = find_column(desc, argument + quiet);

	if (column != 0 && quiet)
		plan->quiet[plan->nquiet++] = column;
	else if (column != 0)
		plan->watched[plan->nwatched++] = column;
}

/* Arguments: @namespace column, key columns, |, watched columns. */
static void
resolve_arguments(TriggerPlan *plan, const Trigger *trigger, Relation relation)
{
	TupleDesc desc = RelationGetDescr(relation);
	int		  i;

	plan->keys = palloc0(sizeof(KeyColumn) * (trigger->tgnargs + 1));
	plan->watched = palloc0(sizeof(AttrNumber) * (trigger->tgnargs + desc->natts + 1));
	plan->quiet = palloc0(sizeof(AttrNumber) * (trigger->tgnargs + 1));
	for (i = 0; i < trigger->tgnargs; i++)
	{
		const char *argument = trigger->tgargs[i];
		AttrNumber	column;

		if (plan->some_watched)
			resolve_watched(plan, argument, desc);
		else if (strcmp(argument, "|") == 0)
			plan->some_watched = true;
		else if (argument[0] == '@')
		{
			column = find_column(desc, argument + 1);
			if (column != 0 && TupleDescAttr(desc, column - 1)->atttypid == UUIDOID)
				plan->namespace_column = column;
		}
		else
		{
			resolve_key(&plan->keys[plan->nkeys], argument, relation);
			plan->some_own |= plan->keys[plan->nkeys++].own;
		}
	}
	if (!plan->some_watched)
		watch_all(plan, desc);
	find_last_column(plan);
}

static TriggerPlan *
find_plan(const TriggerData *data)
{
	static TriggerPlan *recent = NULL;
	Oid					relation = RelationGetRelid(data->tg_relation);
	TriggerPlan		   *plan;
	MemoryContext		old;
	bool				found;

	/* entries stay where they are, and are never removed */
	if (recent != NULL && recent->trigger == data->tg_trigger->tgoid && recent->valid && recent->relation == relation)
		return recent;
	plan = hash_search(plans, &data->tg_trigger->tgoid, HASH_ENTER, &found);
	recent = plan;
	if (found && plan->valid && plan->relation == relation)
		return plan;
	if (found && plan->context)
		MemoryContextDelete(plan->context);
	memset((char *) plan + sizeof(Oid), 0, sizeof(TriggerPlan) - sizeof(Oid));
	plan->relation = relation;
	plan->context = AllocSetContextCreate(TopMemoryContext, "pgsync_itsm trigger", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(plan->context);
	resolve_arguments(plan, data->tg_trigger, data->tg_relation);
	MemoryContextSwitchTo(old);
	plan->valid = true;
	return plan;
}

static void
note_event(TriggerData *data)
{
	bool		 deletes = TRIGGER_FIRED_BY_DELETE(data->tg_event);
	TriggerPlan *plan;

	if (!changes->followed && !deletes && !TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return;
	plan = find_plan(data);
	if (!changes->followed)
	{
		if (plan->some_own)
			note_gone(plan, data->tg_trigslot, deletes ? NULL : data->tg_newslot);
	}
	else if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		note_one(plan, data->tg_trigslot, OP_INSERT);
	else if (deletes)
		note_one(plan, data->tg_trigslot, OP_DELETE);
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		note_update(plan, data->tg_trigslot, data->tg_newslot);
	else
		note_unknown(plan);
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
	note_event(data);
	if (changes->written) /* by a commit callback that came after ours */
		write_changes();
	return PointerGetDatum(NULL);
}
