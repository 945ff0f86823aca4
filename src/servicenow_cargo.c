/*
 * servicenow_cargo.c
 *	  Which items of a call travel in one payload for Identification and
 *	  Reconciliation, and where each stands in it.
 *
 * Records travel in full.  Ends of relationships that are no such records
 * stand behind them as class and sys_id, each CI once, so that no payload
 * writes a CI twice.  Building and reading load the same items in the same
 * order and so agree on every position; nothing here knows what is printed.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "servicenow.h"

/* ------------------------------------------------------- texts to numbers */

typedef struct IndexEntry
{
	const char *text;
	int			number;
	uint32		hash;
	char		status;
} IndexEntry;

#define SH_PREFIX names
#define SH_ELEMENT_TYPE IndexEntry
#define SH_KEY_TYPE const char *
#define SH_KEY text
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), (int) strlen(key))
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct ServicenowIndex
{
	names_hash *table;
};

/* An empty index for about so many texts, in the current memory context. */
ServicenowIndex *
servicenow_index_new(int size)
{
	ServicenowIndex *index = palloc(sizeof(ServicenowIndex));

	index->table = names_create(CurrentMemoryContext, (uint32) Max(size, 16), NULL);
	return index;
}

/* The number that was given to a text, -1 if it has none.  NULL has none. */
int
servicenow_index_find(const ServicenowIndex *index, const char *text)
{
	IndexEntry *entry = text != NULL ? names_lookup(index->table, text) : NULL;

	return entry != NULL ? entry->number : -1;
}

/* Gives a text, which is borrowed, a number; one that it had is replaced.  NULL is ignored. */
void
servicenow_index_set(ServicenowIndex *index, const char *text, int number)
{
	bool known;

	if (text != NULL)
		names_insert(index->table, text, &known)->number = number;
}

/* ---------------------------------------------------------------- loading */

/* An empty cargo for the first nitems items; everything is palloc'd. */
ServicenowCargo *
servicenow_cargo_new(const AdapterConnection *conn, const AdapterItem *items, int nitems)
{
	ServicenowCargo *cargo = palloc0(sizeof(ServicenowCargo));

	cargo->conn = conn;
	cargo->items = items;
	cargo->slots = palloc(sizeof(ServicenowSlot) * nitems * 2);
	cargo->places = palloc(sizeof(ServicenowPlace) * nitems);
	cargo->by_sys_id = servicenow_index_new(nitems);
	cargo->by_key = servicenow_index_new(nitems);
	return cargo;
}

static int
add_slot(ServicenowCargo *cargo, const char *sys_id, const char *class_name, int record)
{
	ServicenowSlot *slot = &cargo->slots[cargo->nslots];

	slot->sys_id = sys_id;
	slot->class_name = class_name;
	slot->record = record;
	servicenow_index_set(cargo->by_sys_id, sys_id, cargo->nslots);
	return cargo->nslots++;
}

/* A record takes the place of the reference to it that may stand there already. */
static void
load_record(ServicenowCargo *cargo, int i)
{
	const AdapterItem *item = &cargo->items[i];
	ServicenowPlace	  *place = &cargo->places[i];
	int				   slot = servicenow_index_find(cargo->by_sys_id, item->external_id);

	servicenow_payload_open(cargo->conn, item, &place->payload);
	if (place->payload.refusal_class != NULL)
		place->state = CARGO_REFUSED;
	else
	{
		if (slot < 0 || cargo->slots[slot].record >= 0)
			slot = add_slot(cargo, item->external_id, item->external_table, i);
		cargo->slots[slot].record = i;
		place->slot = slot;
		place->number = cargo->nrecords++;
	}
	if (servicenow_index_find(cargo->by_key, item->native_key) < 0)
		servicenow_index_set(cargo->by_key, item->native_key, i);
}

/* Can the end stand in this payload?  If not, why not. */
static ServicenowState
end_state(const ServicenowCargo *cargo, const char *sys_id, const char *native_key)
{
	int item;

	if (sys_id != NULL)
		return CARGO_TRAVELS;
	item = servicenow_index_find(cargo->by_key, native_key);
	if (item < 0)
		return CARGO_STRANDED;
	return cargo->places[item].state == CARGO_TRAVELS ? CARGO_TRAVELS : CARGO_WAITS;
}

/*
 * The slot of an end that can travel: its record's if that is in the payload,
 * else its id's; a new one if it is met for the first time.
 */
static int
end_slot(ServicenowCargo *cargo, const char *sys_id, const char *native_key, const char *class_name)
{
	int item = servicenow_index_find(cargo->by_key, native_key);
	int slot;

	if (item >= 0 && cargo->places[item].state == CARGO_TRAVELS)
		return cargo->places[item].slot;
	slot = servicenow_index_find(cargo->by_sys_id, sys_id);
	return slot >= 0 ? slot : add_slot(cargo, sys_id, class_name != NULL ? class_name : "cmdb_ci", -1);
}

static void
load_relation(ServicenowCargo *cargo, int i)
{
	const AdapterItem *item = &cargo->items[i];
	ServicenowPlace	  *place = &cargo->places[i];

	servicenow_payload_open(cargo->conn, item, &place->payload);
	if (place->payload.refusal_class != NULL)
		place->state = CARGO_REFUSED;
	else
		place->state = Max(end_state(cargo, item->parent_external_id, item->parent_native_key),
						   end_state(cargo, item->child_external_id, item->child_native_key));
	if (place->state != CARGO_TRAVELS)
		return;
	place->slot = end_slot(cargo, item->parent_external_id, item->parent_native_key, item->parent_table);
	place->child = end_slot(cargo, item->child_external_id, item->child_native_key, item->child_table);
	place->number = cargo->nrelations++;
}

/* Loads the next item and says whether it travels. */
ServicenowState
servicenow_cargo_load(ServicenowCargo *cargo)
{
	int				 i = cargo->nitems++;
	ServicenowPlace *place = &cargo->places[i];

	place->state = CARGO_TRAVELS;
	place->slot = place->child = place->number = -1;
	place->slots_before = cargo->nslots;
	place->records_before = cargo->nrecords;
	place->relations_before = cargo->nrelations;
	if (servicenow_is_relation(cargo->items[i].entity_type))
		load_relation(cargo, i);
	else
		load_record(cargo, i);
	return place->state;
}

/* Takes out what was loaded from item n on.  Nothing can be loaded after that. */
void
servicenow_cargo_unload(ServicenowCargo *cargo, int n)
{
	const ServicenowPlace *place;

	if (n >= cargo->nitems)
		return;
	place = &cargo->places[n];
	cargo->nitems = n;
	cargo->nslots = place->slots_before;
	cargo->nrecords = place->records_before;
	cargo->nrelations = place->relations_before;
	for (int i = 0; i < cargo->nslots; i++)
	{
		if (cargo->slots[i].record >= n)
			cargo->slots[i].record = -1;
	}
}

/* Gives every slot its position in the payload: records in the order of the items, then the others. */
void
servicenow_cargo_close(ServicenowCargo *cargo)
{
	int next = cargo->nrecords;

	for (int i = 0; i < cargo->nslots; i++)
	{
		ServicenowSlot *slot = &cargo->slots[i];

		slot->position = slot->record >= 0 ? cargo->places[slot->record].number : next++;
	}
}
