/*
 * secrets.c
 *	  Sealed credentials.
 *
 * A credential is sealed with XChaCha20-Poly1305 before it reaches a table,
 * WAL or a log; its id and namespace are authenticated with it, so that a
 * sealed value cannot be moved to another row.  The master key lives in a file
 * outside the database.  Where Supabase Vault is installed, it keeps the
 * credentials instead.
 *
 * Clear text lives in buffers of this file and of who called secrets_open(),
 * and is zeroed.  It is a parameter of a statement only on its way to Vault,
 * never part of its text, and stands in no message.
 *
 * Words: *secret* is the clear text; *sealed*, what the table holds; *master
 * key*, what is in the key file.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "json.h"
#include "pgsync_itsm.h"
#include "secrets.h"

#define KEY_BYTES crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES
#define KEY_ID_BYTES 16 /* crypto_generichash_BYTES_MIN */
#define FORMAT_1 0x01
#define HEADER_BYTES (1 + KEY_ID_BYTES + NONCE_BYTES)
#define MAX_SECRET (64 * 1024)
#define DEFAULT_KEY_NAME "pgsync_itsm.key"
#define REF_PREFIX "secret:"

PG_FUNCTION_INFO_V1(secrets_store);
PG_FUNCTION_INFO_V1(secrets_drop);

/* A secret in memory of ours. */
typedef struct Clear
{
	char  *data; /* NUL-terminated behind len */
	size_t len;
} Clear;

/* A row of the table, or of Vault. */
typedef struct StoredSecret
{
	bool	  found;
	bool	  in_vault;
	pg_uuid_t namespace_id;
	bytea	 *sealed; /* ours */
	Clear	  clear;  /* Vault's */
} StoredSecret;

/* ------------------------------------------------------------ small helpers */

static void
start_sodium(void)
{
	if (sodium_init() < 0)
		elog(ERROR, "could not initialize libsodium");
}

static void
close_clear(Clear *clear)
{
	secrets_close(clear->data, clear->len);
	clear->data = NULL;
	clear->len = 0;
}

static Clear
copy_clear(const char *data, size_t len)
{
	Clear clear;

	clear.data = palloc(len + 1);
	memcpy(clear.data, data, len);
	clear.data[len] = '\0';
	clear.len = len;
	return clear;
}

void
secrets_close(char *secret, size_t len)
{
	if (secret == NULL)
		return;
	explicit_bzero(secret, len);
	pfree(secret);
}

static char *
uuid_text(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));
}

static pg_uuid_t
new_uuid(void)
{
	pg_uuid_t uuid;

	if (!pg_strong_random(uuid.data, UUID_LEN))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	uuid.data[6] = (uuid.data[6] & 0x0f) | 0x40; /* version 4, RFC 9562 */
	uuid.data[8] = (uuid.data[8] & 0x3f) | 0x80;
	return uuid;
}

/* ------------------------------------------------------------- the key file */

static const char *
key_path(void)
{
	if (pgsync_itsm_key_file[0] != '\0')
		return pgsync_itsm_key_file;
	return psprintf("%s/%s", DataDir, DEFAULT_KEY_NAME);
}

/* The path is only for superusers to see, as the setting is. */
static int
key_path_detail(const char *path)
{
	return superuser() ? errdetail("The file is \"%s\".", path) : errdetail_log("The file is \"%s\".", path);
}

static void
check_key_mode(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not look at the key file: %m"), key_path_detail(path)));
	if (!S_ISREG(st.st_mode) || (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("the key file must be readable for its owner only"),
				 key_path_detail(path),
				 errhint("chmod 0600 the file named by pgsync_itsm.key_file. If others may have read it, make new "
						 "credentials on the platform.")));
}

/* The file holds the key as 64 hexadecimal digits. */
static void
decode_key(const char *text, size_t len, unsigned char *key, const char *path)
{
	size_t decoded = 0;
	bool   good;

	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	good = sodium_hex2bin(key, KEY_BYTES, text, len, NULL, &decoded, NULL) == 0 && decoded == KEY_BYTES;
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("the key file does not hold a key"),
						key_path_detail(path), errhint("It must hold 64 hexadecimal digits. Restore it from a copy.")));
}

/* False if there is no such file. */
static bool
read_key(unsigned char *key)
{
	const char *path = key_path();
	char		text[2 * KEY_BYTES + 16];
	ssize_t		len;
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);

	if (fd < 0 && errno == ENOENT)
		return false;
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open the key file: %m"), key_path_detail(path),
						errhint("The operating-system user of the server must own it.")));
	check_key_mode(fd, path);
	len = read(fd, text, sizeof(text));
	if (len < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read the key file: %m"), key_path_detail(path)));
	CloseTransientFile(fd);
	decode_key(text, len, key, path);
	explicit_bzero(text, sizeof(text));
	return true;
}

static void
need_key(unsigned char *key)
{
	if (!read_key(key))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_FILE), errmsg("the key file that opens the stored credentials is missing"),
			 key_path_detail(key_path()),
			 errhint("Copy it, mode 0600, from the server that sealed them to where pgsync_itsm.key_file points.")));
}

/* Writes a new key to fd and closes it; false with errno set if that failed. */
static bool
write_key(int fd)
{
	unsigned char key[KEY_BYTES];
	char		  text[2 * KEY_BYTES + 1];
	bool		  good;

	randombytes_buf(key, sizeof(key));
	sodium_bin2hex(text, sizeof(text), key, sizeof(key));
	text[2 * KEY_BYTES] = '\n';
	errno = 0;
	good = write(fd, text, sizeof(text)) == (ssize_t) sizeof(text) && pg_fsync(fd) == 0;
	if (!good && errno == 0)
		errno = ENOSPC;
	explicit_bzero(key, sizeof(key));
	explicit_bzero(text, sizeof(text));
	return CloseTransientFile(fd) == 0 && good;
}

static void
sync_directory(const char *path)
{
	char directory[MAXPGPATH];

	strlcpy(directory, path, sizeof(directory));
	get_parent_directory(directory);
	fsync_fname(directory, true);
}

/*
 * Makes the key file.  It appears under its name complete or not at all, and
 * never replaces one that another session made meanwhile.
 */
static void
create_key(void)
{
	const char *path = key_path();
	char	   *temporary = psprintf("%s.%d.tmp", path, MyProcPid);
	int			fd;
	int			save_errno;
	bool		good;

	(void) unlink(temporary);
	fd = OpenTransientFilePerm(temporary, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY, S_IRUSR | S_IWUSR);
	good = fd >= 0 && write_key(fd) && (link(temporary, path) == 0 || errno == EEXIST);
	save_errno = errno;
	if (fd >= 0)
		(void) unlink(temporary);
	errno = save_errno;
	if (!good)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create the key file: %m"), key_path_detail(path),
						errhint("pgsync_itsm.key_file must name a file in a directory that the server may write to.")));
	sync_directory(path);
	if (pgsync_itsm_key_file[0] == '\0')
		ereport(WARNING,
				(errmsg("the master key of stored credentials was made in the data directory"),
				 errdetail("Whoever gets a base backup gets key and credentials together."),
				 errhint("Move %s to a place that is not backed up with the data, name it in pgsync_itsm.key_file, and "
						 "copy it to each standby.",
						 DEFAULT_KEY_NAME)));
	else
		ereport(NOTICE,
				(errmsg("the master key of stored credentials was made"),
				 errhint("Keep a copy of the file named by pgsync_itsm.key_file, apart from backups of the data.")));
}

/* -------------------------------------------- statements as the table's owner */

static Oid
secrets_owner(void)
{
	Oid namespace = get_namespace_oid("pgsync_itsm", false);
	Oid		  table = get_relname_relid("integration_secrets", namespace);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid		  owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("extension pgsync_itsm is not installed in this database"),
				 errhint("CREATE EXTENSION pgsync_itsm;")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Runs one statement as the owner of the table, and leaves SPI connected for
 * its rows.  On ERROR the end of the (sub)transaction restores the user.
 */
static void
run_as_owner(const char *statement, int nargs, Oid *types, Datum *values, bool read_only)
{
	Oid	 user;
	int	 context;
	int	 code;
	bool own_snapshot = !ActiveSnapshotSet();

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(secrets_owner(), context | SECURITY_LOCAL_USERID_CHANGE);
	if (own_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	code = SPI_execute_with_args(statement, nargs, types, values, NULL, read_only, 0);
	if (code < 0)
		elog(ERROR, "a statement about secrets failed: %s", SPI_result_code_string(code));
	if (own_snapshot)
		PopActiveSnapshot();
	SetUserIdAndSecContext(user, context);
}

static Datum
first_value(int column, bool *isnull)
{
	*isnull = true;
	if (SPI_processed == 0 || SPI_tuptable == NULL)
		return (Datum) 0;
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

static bool
any_sealed(void)
{
	bool isnull;
	bool any;

	run_as_owner("SELECT pgsync_itsm.any_sealed()", 0, NULL, NULL, true);
	any = DatumGetBool(first_value(1, &isnull)) && !isnull;
	SPI_finish();
	return any;
}

/* --------------------------------------------------------------- the seal */

static void
key_id(const unsigned char *key, unsigned char *id)
{
	static const unsigned char domain[] = "pgsync_itsm key id";

	crypto_generichash(id, KEY_ID_BYTES, domain, sizeof(domain), key, KEY_BYTES);
}

static void
bound_data(const pg_uuid_t *id, const pg_uuid_t *namespace_id, unsigned char *aad)
{
	memcpy(aad, id->data, UUID_LEN);
	memcpy(aad + UUID_LEN, namespace_id->data, UUID_LEN);
}

/* format, key id, nonce, cipher text with tag */
static bytea *
seal(const Clear *clear, const pg_uuid_t *id, const pg_uuid_t *namespace_id, const unsigned char *key)
{
	size_t		   size = HEADER_BYTES + clear->len + TAG_BYTES;
	bytea		  *sealed = palloc(VARHDRSZ + size);
	unsigned char *out = (unsigned char *) VARDATA(sealed);
	unsigned char  aad[2 * UUID_LEN];

	SET_VARSIZE(sealed, VARHDRSZ + size);
	bound_data(id, namespace_id, aad);
	out[0] = FORMAT_1;
	key_id(key, out + 1);
	randombytes_buf(out + 1 + KEY_ID_BYTES, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + HEADER_BYTES, NULL, (const unsigned char *) clear->data,
											   clear->len, aad, sizeof(aad), NULL, out + 1 + KEY_ID_BYTES, key);
	return sealed;
}

static Clear
unseal(const bytea *sealed, const pg_uuid_t *id, const pg_uuid_t *namespace_id, const unsigned char *key)
{
	const unsigned char *in = (const unsigned char *) VARDATA(sealed);
	size_t				 size = VARSIZE(sealed) - VARHDRSZ;
	unsigned char		 expected[KEY_ID_BYTES];
	unsigned char		 aad[2 * UUID_LEN];
	Clear				 clear;

	if (size < HEADER_BYTES + TAG_BYTES || in[0] != FORMAT_1)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a stored credential is damaged")));
	key_id(key, expected);
	if (memcmp(expected, in + 1, KEY_ID_BYTES) != 0)
		ereport(ERROR, (errcode(ERRCODE_CONFIG_FILE_ERROR),
						errmsg("a stored credential was sealed with another key than that in the key file"),
						key_path_detail(key_path()),
						errhint("Let pgsync_itsm.key_file name the file of the server that sealed it, or store the "
								"credential again.")));
	bound_data(id, namespace_id, aad);
	clear.len = size - HEADER_BYTES - TAG_BYTES;
	clear.data = palloc(clear.len + 1);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt((unsigned char *) clear.data, NULL, NULL, in + HEADER_BYTES,
												   size - HEADER_BYTES, aad, sizeof(aad), in + 1 + KEY_ID_BYTES,
												   key) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("a stored credential is damaged, or was moved from another row"),
						errhint("Store the credential again.")));
	clear.data[clear.len] = '\0';
	return clear;
}

/* ------------------------------------------------------------ Supabase Vault */

/* Number of arguments of vault.create_secret; 0 if there is no Vault. */
static int
vault_arguments(void)
{
	Oid	  types[] = {TEXTOID, TEXTOID, TEXTOID, UUIDOID};
	List *name;

	if (!OidIsValid(get_namespace_oid("vault", true)))
		return 0;
	name = list_make2(makeString("vault"), makeString("create_secret"));
	if (OidIsValid(LookupFuncName(name, 4, types, true)))
		return 4;
	if (OidIsValid(LookupFuncName(name, 3, types, true)))
		return 3;
	return 0;
}

/* Our secrets are told from others in Vault, and namespaces from each other, by the name. */
static char *
vault_name(const pg_uuid_t *namespace_id, const char *rest)
{
	return psprintf("pgsync_itsm/%s/%s", uuid_text(namespace_id), rest);
}

static pg_uuid_t
vault_store(const pg_uuid_t *namespace_id, const char *purpose, const Clear *clear)
{
	Oid		  types[] = {TEXTOID, TEXTOID, TEXTOID};
	pg_uuid_t unique = new_uuid();
	Datum	  values[3];
	text	 *secret;
	bool	  isnull;
	bool	  replaced;
	Datum	  id;
	pg_uuid_t result;
	char	 *server = json_to_server_n(clear->data, clear->len, &replaced);

	if (replaced)
		ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
						errmsg("a credential that Vault keeps must be text in the encoding of the database")));
	secret = cstring_to_text(server);
	secrets_close(server, strlen(server));
	values[0] = PointerGetDatum(secret);
	values[1] = CStringGetTextDatum(vault_name(namespace_id, psprintf("%s/%s", purpose, uuid_text(&unique))));
	values[2] = CStringGetTextDatum("credential of an ITSM connection (pgsync_itsm)");
	run_as_owner("SELECT vault.create_secret($1, $2, $3)", 3, types, values, false);
	id = first_value(1, &isnull);
	if (isnull)
		elog(ERROR, "Vault returned no id");
	result = *DatumGetUUIDP(id);
	SPI_finish();
	explicit_bzero(VARDATA(secret), VARSIZE(secret) - VARHDRSZ);
	pfree(secret);
	return result;
}

/* The name begins with ours, then the namespace. */
static bool
read_vault_name(const char *name, pg_uuid_t *namespace_id)
{
	const char *prefix = "pgsync_itsm/";
	char		id[37];
	size_t		skip = strlen(prefix);

	if (strncmp(name, prefix, skip) != 0 || strlen(name) < skip + 37 || name[skip + 36] != '/')
		return false;
	strlcpy(id, name + skip, sizeof(id));
	if (strspn(id, "0123456789abcdef-") != 36)
		return false;
	*namespace_id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(id)));
	return true;
}

/* with_clear: also the clear text, else only whose it is */
static void
vault_find(Datum id, bool with_clear, StoredSecret *stored)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			  types[] = {UUIDOID};
	bool		  isnull;
	Datum		  name;
	Datum		  secret;

	run_as_owner(with_clear
					 ? "SELECT name, decrypted_secret FROM vault.decrypted_secrets WHERE id OPERATOR(pg_catalog.=) $1"
					 : "SELECT name, NULL::pg_catalog.text FROM vault.secrets WHERE id OPERATOR(pg_catalog.=) $1",
				 1, types, &id, true);
	name = first_value(1, &isnull);
	if (!isnull)
		stored->found = stored->in_vault = read_vault_name(TextDatumGetCString(name), &stored->namespace_id);
	secret = first_value(2, &isnull);
	if (!isnull)
	{
		struct varlena *value = PG_DETOAST_DATUM_PACKED(secret);
		MemoryContext	spi = MemoryContextSwitchTo(caller);

		stored->clear = copy_clear(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
		MemoryContextSwitchTo(spi);
		explicit_bzero(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	}
	SPI_finish();
}

/* ---------------------------------------------------------- finding a secret */

static void
find_secret(const pg_uuid_t *id, bool with_clear, StoredSecret *stored)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			  types[] = {UUIDOID};
	Datum		  value = UUIDPGetDatum(id);
	bool		  isnull;
	Datum		  column;

	memset(stored, 0, sizeof(*stored));
	run_as_owner("SELECT namespace_id, sealed FROM pgsync_itsm.sealed_secret($1)", 1, types, &value, true);
	column = first_value(1, &isnull);
	if (!isnull)
	{
		MemoryContext spi;

		stored->found = true;
		stored->namespace_id = *DatumGetUUIDP(column);
		column = first_value(2, &isnull);
		spi = MemoryContextSwitchTo(caller);
		stored->sealed = DatumGetByteaPCopy(column);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	if (!stored->found && vault_arguments() > 0)
		vault_find(value, with_clear, stored);
}

static pg_uuid_t
read_ref(const char *ref)
{
	if (strncmp(ref, REF_PREFIX, strlen(REF_PREFIX)) != 0)
		elog(ERROR, "this is no reference to a secret");
	return *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(ref + strlen(REF_PREFIX))));
}

static void
vault_to_utf8(Clear *clear)
{
	char *utf8 = json_to_utf8_n(clear->data, clear->len, NULL);

	close_clear(clear);
	clear->data = utf8;
	clear->len = strlen(utf8);
}

char *
secrets_open_for(const char *ref, const pg_uuid_t *namespace_id, size_t *len)
{
	pg_uuid_t	  id;
	StoredSecret  stored;
	unsigned char key[KEY_BYTES];

	*len = 0;
	if (ref == NULL)
		return NULL;
	start_sodium();
	id = read_ref(ref);
	find_secret(&id, true, &stored);
	if (!stored.found || (namespace_id != NULL && memcmp(namespace_id, &stored.namespace_id, UUID_LEN) != 0))
	{
		close_clear(&stored.clear);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("a credential of this connection is not stored any more"),
				 errhint("Disconnect, and connect again with the credentials.")));
	}
	if (stored.in_vault)
		vault_to_utf8(&stored.clear);
	else
	{
		need_key(key);
		stored.clear = unseal(stored.sealed, &id, &stored.namespace_id, key);
		explicit_bzero(key, sizeof(key));
	}
	*len = stored.clear.len;
	return stored.clear.data;
}

char *
secrets_open(const char *ref, size_t *len)
{
	return secrets_open_for(ref, NULL, len);
}

/* ----------------------------------------------------------- storing a secret */

static void
check_file_right(void)
{
	if (!superuser() && !has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to give a credential as a file of the server"),
						errhint("Only roles with the privileges of pg_read_server_files may do that.")));
}

static size_t
without_line_end(const char *data, size_t len)
{
	if (len > 0 && data[len - 1] == '\n')
		len--;
	if (len > 0 && data[len - 1] == '\r')
		len--;
	return len;
}

/* A file's bytes as they are, but for the line end that editors add. */
static Clear
read_secret_file(const char *path)
{
	Clear	clear;
	ssize_t len;
	int		fd;

	check_file_right();
	if (!is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("the file of a credential must be named by an absolute path"),
				 errhint("Give it as in file:/etc/itsm/client_secret.")));
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	clear.data = palloc0(MAX_SECRET + 1);
	len = read(fd, clear.data, MAX_SECRET + 1);
	if (len < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	CloseTransientFile(fd);
	clear.len = without_line_end(clear.data, len);
	if (clear.len > MAX_SECRET || memchr(clear.data, '\0', clear.len) != NULL)
	{
		close_clear(&clear);
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("file \"%s\" holds no credential", path),
						errdetail("It is larger than %d bytes, or has NUL bytes in it.", MAX_SECRET)));
	}
	explicit_bzero(clear.data + clear.len, MAX_SECRET - clear.len);
	clear.data[clear.len] = '\0';
	return clear;
}

/* What the caller gave, as the platform will get it: UTF-8. */
static Clear
take_secret(text *given, const char *purpose)
{
	Clear clear = copy_clear(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given));
	bool  replaced = false;

	if (strncmp(clear.data, "file:", 5) == 0)
	{
		Clear file = read_secret_file(clear.data + 5);

		close_clear(&clear);
		clear = file;
	}
	else
	{
		char *utf8 = json_to_utf8_n(clear.data, clear.len, &replaced);

		close_clear(&clear);
		clear.data = utf8;
		clear.len = strlen(utf8);
	}
	if (clear.len == 0 || clear.len > MAX_SECRET || replaced)
	{
		close_clear(&clear);
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the credential \"%s\" is empty, too long, or no valid text", purpose)));
	}
	return clear;
}

static pg_uuid_t
seal_and_store(const pg_uuid_t *namespace_id, const char *purpose, Clear *clear)
{
	Oid			  types[] = {UUIDOID, UUIDOID, TEXTOID, BYTEAOID};
	pg_uuid_t	  id = new_uuid();
	unsigned char key[KEY_BYTES];
	Datum		  values[4];

	if (!read_key(key))
	{
		if (any_sealed())
			need_key(key); /* a new key would lock the others away for good */
		create_key();
		need_key(key);
	}
	values[0] = UUIDPGetDatum(&id);
	values[1] = UUIDPGetDatum(namespace_id);
	values[2] = CStringGetTextDatum(purpose);
	values[3] = PointerGetDatum(seal(clear, &id, namespace_id, key));
	explicit_bzero(key, sizeof(key));
	close_clear(clear);
	run_as_owner("SELECT pgsync_itsm.put_secret($1, $2, $3, $4)", 4, types, values, false);
	SPI_finish();
	return id;
}

/* May the caller store, or do away with, what belongs to this namespace? */
static bool
may_change(const pg_uuid_t *namespace_id)
{
	Oid	  types[] = {UUIDOID};
	Datum value = UUIDPGetDatum(namespace_id);
	bool  isnull;
	bool  sees;

	if (has_privs_of_role(GetUserId(), secrets_owner()))
		return true;
	SPI_connect();
	if (SPI_execute_with_args("SELECT pgsync_itsm.sees_namespace($1)", 1, types, &value, NULL, true, 1) !=
		SPI_OK_SELECT)
		elog(ERROR, "the visible namespaces cannot be read");
	sees = DatumGetBool(first_value(1, &isnull)) && !isnull;
	SPI_finish();
	return sees;
}

/* pgsync_itsm.store_secret(namespace_id uuid, purpose text, secret text) returns uuid */
Datum
secrets_store(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	pg_uuid_t *namespace_id;
	char	  *purpose;
	Clear	   clear;

	if (PG_ARGISNULL(2))
		PG_RETURN_NULL();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("namespace_id and purpose must not be null")));
	namespace_id = PG_GETARG_UUID_P(0);
	purpose = text_to_cstring(PG_GETARG_TEXT_PP(1));
	PreventCommandIfReadOnly("store_secret()");
	if (!may_change(namespace_id))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("namespace %s does not exist", uuid_text(namespace_id))));
	start_sodium();
	clear = take_secret(PG_GETARG_TEXT_PP(2), purpose);
	if (vault_arguments() > 0)
	{
		*id = vault_store(namespace_id, purpose, &clear);
		close_clear(&clear);
	}
	else
		*id = seal_and_store(namespace_id, purpose, &clear);
	PG_RETURN_UUID_P(id);
}

/* pgsync_itsm.drop_secret(secret_id uuid) returns void */
Datum
secrets_drop(PG_FUNCTION_ARGS)
{
	pg_uuid_t	*id = PG_GETARG_UUID_P(0);
	Oid			 types[] = {UUIDOID};
	Datum		 value = UUIDPGetDatum(id);
	StoredSecret stored;

	PreventCommandIfReadOnly("drop_secret()");
	find_secret(id, false, &stored);
	if (!stored.found)
		PG_RETURN_VOID();
	if (!may_change(&stored.namespace_id))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for credentials of namespace %s", uuid_text(&stored.namespace_id))));
	if (stored.in_vault)
		run_as_owner("DELETE FROM vault.secrets WHERE id OPERATOR(pg_catalog.=) $1", 1, types, &value, false);
	else
		run_as_owner("SELECT pgsync_itsm.remove_secret($1)", 1, types, &value, false);
	SPI_finish();
	PG_RETURN_VOID();
}
