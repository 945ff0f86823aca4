# Breaks: a tenant with the level admin, and the right to create objects in the very schema of the extension and in one that
# the database's search_path names before pg_catalog, puts SQL of his own wherever he can: a view with functions, filter,
# mapping and session settings behind his sources; operators, functions and types named as PostgreSQL's and as ours;
# defaults and triggers on his tables; triggers, rules, policies and children on ours.
# A record of his is written to a table with everything of his on it.
# Compares: what each attempt was told, in his own call, in a superuser's call, in the planner and in the worker, with the one
# SQLSTATE that it may be told; that no function of his ever ran as anybody but him; and that the worker outlives him and
# another tenant's publish goes through.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster(name => 'malicious', conf => "pgsync_itsm.plan_timeout = '20s'\n");
my $sim  = start_simulator();
my %ns = (mallory => '11111111-1111-4111-8111-111111111111', victim => '22222222-2222-4222-8222-222222222222');
sub sql { return $node->safe_psql('postgres', $_[0]) }

# As a tenant; what was said, if it was an error.
sub as
{
	my ($role, $statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "SET client_min_messages = error; SET ROLE $role; SET search_path = public; $statement", on_error_stop => 1);
	return $rc == 0 ? $out : "ERROR $err";
}

# ---------------------------------------------------------------- two tenants
sql(<<'SQL');
CREATE EXTENSION pgsync_itsm SCHEMA public;
CREATE EXTENSION dblink SCHEMA public;
CREATE ROLE mallory LOGIN;
CREATE ROLE victim LOGIN;
GRANT CREATE ON SCHEMA public TO mallory;
CREATE SCHEMA evil AUTHORIZATION mallory;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE SCHEMA victim AUTHORIZATION victim;
SET client_min_messages = error;
SELECT itsm_secure($$namespace_id::text = current_setting('site.namespace', true)$$);
SELECT itsm_grant('mallory', 'admin'), itsm_grant('victim', 'admin');
SQL
sql("ALTER ROLE $_ SET site.namespace = '$ns{$_}'") for sort keys %ns;
my %conn;
for my $who (sort keys %ns)
{
	my $schema = $who eq 'mallory' ? 'evil' : $who;
	sql("SET ROLE $who; CREATE TABLE $schema.apps (id uuid PRIMARY KEY, name text, note text);
		INSERT INTO $schema.apps SELECT md5('$who' || n)::uuid, initcap('$who') || ' ' || n, 'of $who' FROM generate_series(1, 3) AS n");
	$conn{$who} = as($who, "SET site.namespace = '$ns{$who}'; SELECT itsm_connect_servicenow('$ns{$who}', '" . $sim->url . "', client_id => '" . CLIENT_ID . "',
		client_secret => '" . CLIENT_SECRET . "', default_owner => 'admin\@example.com', session_settings => '{\"site.namespace\": \"$ns{$who}\"}');");
	like($conn{$who}, qr/^[0-9a-f-]{36}$/, "$who connects");
	unlike(as($who, "SET site.namespace = '$ns{$who}'; SELECT itsm_set_source('$conn{$who}', 'application',
		'SELECT a.id AS key, a.name, a.note AS description, ''operational'' AS operational_status, ''apm'' AS management_classification FROM $schema.apps AS a'); SELECT itsm_prepare_instance('$conn{$who}'); SELECT itsm_activate('$conn{$who}')"), qr/ERROR/, 'and is active');
}
my $secret = sql("SELECT client_secret_vault_id FROM integration_connections WHERE id = '$conn{victim}'");
like($secret, qr/^[0-9a-f-]{36}$/, 'there is a secret to be stolen');

# ---------------------------------------------------------------- what is tried, and the SQLSTATE that it may be told
# in a statement of his own and, where that differs, in a source
my @attempts = (
	# to be somebody else
	[ 'set role', 'SET ROLE postgres', '42501' ],
	[ 'set role by set_config', q{SELECT set_config('role', 'postgres', true)}, '42501' ],
	[ 'reset role', 'RESET ROLE', '42501' ],
	[ 'reset authorization', 'RESET SESSION AUTHORIZATION', '42501' ],
	[ 'set authorization', 'SET SESSION AUTHORIZATION postgres', '42501' ],
	[ 'by dblink', q{SELECT * FROM public.dblink('dbname=postgres user=postgres', 'SELECT 1') AS t(x int)}, '2F003' ],
	[ 'by dblink with a password', q{SELECT * FROM public.dblink('dbname=postgres user=postgres password=x', 'SELECT 1') AS t(x int)}, '2F003' ],
	[ 'grant', 'GRANT postgres TO mallory', '42501', '25006' ],
	# what is not his
	[ 'table of another', 'SELECT * FROM victim.apps', '42501' ],
	[ 'secrets', 'SELECT sealed FROM pgsync_itsm.integration_secrets', '42501' ],
	[ 'sealed secret', "SELECT sealed FROM pgsync_itsm.sealed_secret('$secret')", '42501' ],
	[ 'secret dropped', "SELECT pgsync_itsm.drop_secret('$secret')", '42501' ],
	[ 'secret stored for another', "SELECT pgsync_itsm.store_secret('$ns{victim}', 'password', 'x')", '42704', '25006' ],
	[ 'no row security', q{DO $$ BEGIN PERFORM set_config('row_security', 'off', true); PERFORM count(*) FROM public.integration_runs; END $$}, '42501' ],
	[ 'source of another', "SELECT * FROM pgsync_itsm.read_source('$conn{victim}', 'application')", '42704' ],
	[ 'source of another, checked', "SELECT * FROM pgsync_itsm.check_source_sql('$conn{victim}', 'application', NULL)", '42704' ],
	[ 'the site', 'SELECT * FROM pgsync_itsm.site', '42501' ],
	# the server
	[ 'a file', q{SELECT pg_read_file('/etc/passwd')}, '42501' ],
	[ 'a directory', q{SELECT pg_ls_dir('/')}, '42501' ],
	[ 'a program', q{COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'}, '42501' ],
	[ 'a large object', q{SELECT lo_import('/etc/passwd')}, '42501' ],
	# our functions, which a source does not call
	[ 'publish for another', "SELECT public.itsm_publish('$ns{victim}')", '42704' ],
	[ 'rows of another', "SELECT 1 / count(*) FROM public.integration_runs WHERE namespace_id <> '$ns{mallory}'", '22012' ],
	[ 'itsm_secure', q{SELECT public.itsm_secure('true')}, '42501' ],
	[ 'itsm_grant', q{SELECT public.itsm_grant('mallory', 'admin')}, '42501' ],
	[ 'behind a gate', "SELECT pgsync_itsm.set_active_granted('$conn{victim}', false, 'postgres')", '42501' ],
	[ 'a gate', "SELECT pgsync_itsm.set_active('$conn{victim}', false)", '42704', '42501' ],
	[ 'our table', q{UPDATE public.integration_runs SET status = 'done'}, '42501', '25006' ],
	[ 'our definer function', 'CREATE TRIGGER t AFTER DELETE ON evil.apps FOR EACH ROW EXECUTE FUNCTION pgsync_itsm.namespace_deleted()', '42501', '25006' ]);
# where a source is read: what else is not possible there
my @in_source = (
	[ 'write', 'INSERT INTO evil.loot VALUES (1)', '25006' ],
	[ 'create', 'CREATE TABLE evil.t ()', '25006' ],
	[ 'temp table', 'CREATE TEMP TABLE t ()', '25006' ],
	[ 'to write after all', q{SELECT set_config('transaction_read_only', 'off', false)}, '25001' ],
	[ 'death by error', q{SELECT set_config('exit_on_error', 'on', false)}, '42501' ],
	[ 'death by signal', 'SELECT pg_terminate_backend(pg_backend_pid())', '42501' ],
	[ 'listen', 'LISTEN x', '42501' ],
	[ 'commit', 'COMMIT', '0A000' ],
	[ 'own publish', "SELECT public.itsm_publish('$ns{mallory}')", '42501' ],
	[ 'own setting', "SELECT public.itsm_set('$conn{mallory}', 'batch_items', '1')", '42501' ],
	[ 'own secret', "SELECT pgsync_itsm.store_secret('$ns{mallory}', 'password', 'x')", '25006' ],
	[ 'a request from here', "SELECT public.itsm_test_connection('$conn{mallory}')", '25006' ]);

my @all_in_source = ((map { [ $_->[0], $_->[1], $_->[3] // $_->[2] ] } @attempts), @in_source);

sub literal { return PgsyncItsm::sql_literal($_[0]) }
my $values = join ', ', map { '(' . literal($_->[0]) . ', ' . literal($_->[1]) . ')' } @attempts;
my $more   = join ', ', map { '(' . literal($_->[0]) . ', ' . literal($_->[1]) . ')' } @attempts, @in_source;
sql(<<"SQL");
SET ROLE mallory;
CREATE TABLE evil.loot (n int, who name DEFAULT current_user, what text);
GRANT INSERT ON evil.loot TO PUBLIC;
CREATE FUNCTION evil.attempt(statement text) RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN query_canceled OR others THEN
    RETURN SQLSTATE;
END \$\$;
CREATE FUNCTION evil.report(what text, said text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    RAISE LOG 'evil|%|%|%|%|', pg_backend_pid(), current_user, what, said;
END \$\$;
CREATE FUNCTION evil.try_source() RETURNS text LANGUAGE sql AS \$body\$
    SELECT string_agg(x.y, ',') FROM (SELECT (evil.report(v.what, evil.attempt(v.sql)))::text AS y FROM (VALUES $more) AS v(what, sql)) AS x;
\$body\$;
CREATE FUNCTION evil.try_caller() RETURNS text LANGUAGE sql AS \$body\$
    SELECT string_agg(x.y, ',') FROM (SELECT (evil.report(v.what, evil.attempt(v.sql)))::text AS y FROM (VALUES $values) AS v(what, sql)) AS x;
\$body\$;
CREATE VIEW evil.apps_view AS SELECT a.id AS key, a.name, evil.try_source() AS description, 'operational' AS operational_status, 'apm' AS management_classification FROM evil.apps AS a WHERE a.name LIKE '%1';
SQL

# What was said since, by attempt; who said it and in which process go to the last arguments.
my $seen = 0;
sub said
{
	my ($pids, $users) = @_;
	my $log = substr slurp_file($node->logfile), $seen;
	$seen += length $log;
	my %said;
	while ($log =~ /evil\|(\d+)\|([^|]*)\|([^|]*)\|([^|]*)\|/g)
	{
		$pids->{$1}++;
		$users->{$2}++;
		$said{$3} = defined $said{$3} && $said{$3} ne $4 ? "$said{$3} and $4" : $4;
	}
	return \%said;
}

# Compares with what may be said.
sub check_said
{
	my ($name, $said, @tried) = @_;
	my %expected = map { $_->[0] => $_->[2] } @tried;
	is_deeply($said, \%expected, "$name: each of " . keys(%expected) . ' attempts is told what it may be told');
	return;
}

# ---------------------------------------------------------------- in a source
said();
my (%pids, %users);
sql("SET ROLE mallory; SET site.namespace = '$ns{mallory}'; SET client_min_messages = error; SELECT public.itsm_set_source('$conn{mallory}', 'application', 'SELECT * FROM evil.apps_view')");
is_deeply(said(), {}, 'to store a source runs nothing of it');
my $worker = worker_pid($node, 'postgres');

my $run = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_preview('$ns{mallory}')");
is(wait_for_run($node, 'postgres', $run)->{status}, 'planned', 'a preview goes through');
check_said('in the planner', said(\%pids, \%users), @all_in_source);
is_deeply([ keys %users ], ['mallory'], 'as the owner of the connection');
is($pids{$worker}, undef, 'in the planner, in fact');

(%pids, %users) = ();
$run = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_publish('$ns{mallory}', applications => ARRAY(SELECT id FROM evil.apps), confirm => true)");
is(wait_for_run($node, 'postgres', $run)->{status}, 'done', 'a publish of a few goes through');
check_said('in the worker', said(\%pids, \%users), @all_in_source);
is_deeply([ keys %users ], ['mallory'], 'as the owner of the connection');
cmp_ok($pids{$worker} // 0, '>', 0, 'in the worker, in fact');
is(worker_pid($node, 'postgres'), $worker, 'which goes on');

for my $caller ('mallory', 'postgres')
{
	for my $call ("SELECT count(*) FROM pgsync_itsm.read_source('$conn{mallory}', 'application')", "SELECT rows FROM pgsync_itsm.source_row_counts('$conn{mallory}') WHERE entity_type = 'application'")
	{
		(%pids, %users) = ();
		unlike(as($caller, "SET site.namespace = '$ns{mallory}'; $call"), qr/ERROR/, "$caller: $call");
		check_said("$caller calls", said(\%pids, \%users), @all_in_source);
		is_deeply([ keys %users ], ['mallory'], 'as the owner of the connection, not as the caller');
	}
}

# filter and mapping
for my $call ("itsm_set_filter('$conn{mallory}', 'application', 'evil.try_source() IS NULL OR true')", "itsm_set_mapping('$conn{mallory}', 'application', 'u_x', 'evil.try_source()')")
{
	unlike(as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT $call"), qr/ERROR/, $call);
	(%pids, %users) = ();
	$run = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_preview('$ns{mallory}')");
	is(wait_for_run($node, 'postgres', $run)->{status}, 'planned', 'a preview goes through');
	check_said('in the planner', said(\%pids, \%users), @all_in_source);
	is_deeply([ keys %users ], ['mallory'], 'as the owner of the connection');
}

# ---------------------------------------------------------------- where a record is written to
# As in a source, but writing is not what is forbidden.
my %in_write = ('secret stored for another' => '42704', 'a gate' => '42501', 'grant' => '42501', 'our definer function' => '42501');
my @in_write = ((map { [ $_->[0], $_->[1], $in_write{ $_->[0] } // $_->[2] ] } @attempts),
	[ 'temp table', 'CREATE TEMP TABLE t ()', '42501' ],
	[ 'a cursor for later', 'DECLARE c CURSOR WITH HOLD FOR SELECT evil.try_source()', '42501' ],
	[ 'all deferred', 'SET CONSTRAINTS ALL DEFERRED', 'done' ],
	(grep { $_->[0] =~ /^(?:death|listen|commit|own publish|own setting)/ } @in_source),
	[ 'another write', "SELECT pgsync_itsm.write_record('$conn{mallory}', 'contact', '1', '{phone}', '{x}')", '42501' ]);
my $written = join ', ', map { '(' . literal($_->[0]) . ', ' . literal($_->[1]) . ')' } @in_write;
sql(<<"SQL");
SET ROLE mallory;
CREATE FUNCTION evil.try_write() RETURNS boolean LANGUAGE plpgsql AS \$body\$
BEGIN
    PERFORM evil.report(v.what, evil.attempt(v.sql)) FROM (VALUES $written) AS v(what, sql);
    RETURN true;
END \$body\$;
CREATE FUNCTION evil.try_again() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM evil.try_write(); RETURN NEW; END \$\$;
CREATE TABLE evil.written (id integer PRIMARY KEY, name text, note text);
INSERT INTO evil.written VALUES (1, 'one');
SQL
as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_set_writer('$conn{mallory}', 'contact', 'evil.written', 'id', '{\"phone\": \"name\", \"title\": {\"column\": \"note\", \"value\": \"CASE WHEN evil.try_write() THEN value END\"}}')");
is_deeply(said(), {}, 'to store a writer runs nothing of it');
my $write = sub { return as('postgres', "SELECT ok || coalesce(': ' || reason || length(reason), '') FROM pgsync_itsm.try_write('$conn{mallory}', 'contact', '1', '{$_[0]}', '{$_[1]}'); SELECT CASE WHEN current_user = 'postgres' THEN 'himself' END || current_setting('role') || current_setting('search_path') || current_setting('row_security')") };
for my $trap ([ 'an expression', '', 'title' ],
	[ 'a trigger before', 'CREATE TRIGGER x BEFORE UPDATE ON evil.written FOR EACH ROW EXECUTE FUNCTION evil.try_again()' ],
	[ 'a trigger after', 'CREATE TRIGGER x AFTER UPDATE ON evil.written FOR EACH ROW EXECUTE FUNCTION evil.try_again()' ],
	[ 'a trigger of the statement', 'CREATE TRIGGER x AFTER UPDATE ON evil.written EXECUTE FUNCTION evil.try_again()' ],
	[ 'a deferred trigger', 'CREATE CONSTRAINT TRIGGER x AFTER UPDATE ON evil.written DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.try_again()' ],
	[ 'a constraint', 'ALTER TABLE evil.written ADD CONSTRAINT x CHECK (evil.try_write()) NOT VALID' ],
	[ 'a policy', 'ALTER TABLE evil.written ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY x ON evil.written USING (evil.try_write())' ])
{
	my ($name, $ddl, $field) = @$trap;
	sql("SET ROLE mallory; $ddl") if $ddl;
	said();
	(%pids, %users) = ();
	is($write->($field // 'phone', $name), "true\nhimselfpostgrespublicon", "$name: the record is written, and all is as before");
	check_said($name, said(\%pids, \%users), @in_write);
	is_deeply([ keys %users ], ['mallory'], 'as the owner of the connection');
	is(sql("SELECT coalesce(note, name) FROM evil.written"), $name, 'what was written is there');
	sql('SET ROLE mallory; DROP TRIGGER IF EXISTS x ON evil.written; DROP POLICY IF EXISTS x ON evil.written; ALTER TABLE evil.written DROP CONSTRAINT IF EXISTS x; ALTER TABLE evil.written DISABLE ROW LEVEL SECURITY; UPDATE evil.written SET note = NULL');
}
sql("SET ROLE mallory; CREATE FUNCTION evil.fails() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
	PERFORM evil.attempt(\$q\$SELECT set_config('exit_on_error', 'on', false)\$q\$);
	RAISE EXCEPTION USING ERRCODE = NEW.name, MESSAGE = repeat('x', 3000000), DETAIL = repeat('y', 3000000); END \$\$;
	CREATE TRIGGER x AFTER UPDATE ON evil.written FOR EACH ROW EXECUTE FUNCTION evil.fails()");
for my $state ('57014', 'P0004', '57P01', '57P02', 'XX001', '40P01', '40001', '23505')
{
	my $code = $state eq '57014' ? '09000' : $state;
	like($write->('phone', $state), qr/^false: x{480} \($code\)488\nhimselfpostgrespublicon$/, "an error $state is data, and not more of it than there is room for");
}
sql("SET ROLE mallory; DROP TABLE evil.written");

# settings that are made before a source is read
for my $setting ([ role => 'postgres' ], [ session_authorization => 'postgres' ], [ session_replication_role => 'replica' ], [ transaction_read_only => 'off' ], [ exit_on_error => 'on' ])
{
	my $id = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_connect_servicenow('$ns{mallory}', '" . $sim->url . "', username => 'u', password => 'p', name => '$setting->[0]',
		session_settings => '{\"site.namespace\": \"$ns{mallory}\", \"$setting->[0]\": \"$setting->[1]\"}')");
	like(as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_set_source('$id', 'application', 'SELECT * FROM evil.apps_view')"), qr/ERROR.*(?:cannot set parameter|permission denied to set|must be set before)/, "$setting->[0] is set");
	# as if he had come so far
	sql("UPDATE integration_connections SET is_active = true WHERE id = '$id';
		INSERT INTO integration_sources (namespace_id, connection_id, entity_type, query) VALUES ('$ns{mallory}', '$id', 'application', 'SELECT * FROM evil.apps_view')");
	(%pids, %users) = ();
	$run = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_preview('$ns{mallory}', connection_id => '$id')");
	is(wait_for_run($node, 'postgres', $run)->{status}, 'failed', "$setting->[0]: refused before anything is read");
	is_deeply(said(), {}, 'nothing ran');
	as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_disconnect('$id')");
}
is(worker_pid($node, 'postgres'), $worker, 'the worker goes on');

# ---------------------------------------------------------------- errors that are not like others
sub others_go_on
{
	my ($name) = @_;
	sql("UPDATE victim.apps SET note = '$name'");
	my $n = as('victim', "SET site.namespace = '$ns{victim}'; SELECT itsm_publish('$ns{victim}', confirm => true)");
	is(wait_for_run($node, 'postgres', $n, seconds => 60)->{status}, 'done', "$name: the other tenant's publish goes through");
	my ($app) = grep { $_->{name} eq 'Victim 1' } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
	is($app->{comments}, $name, 'and is there');
	is(worker_pid($node, 'postgres'), $worker, 'the worker is the same');
	return;
}
sql("SET ROLE mallory; CREATE FUNCTION evil.raise(state text, words text) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN
	PERFORM pg_advisory_lock(4711);
	PERFORM evil.attempt(\$q\$SELECT set_config('exit_on_error', 'on', false)\$q\$);
	RAISE EXCEPTION USING ERRCODE = state, MESSAGE = words; END \$\$");
as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_set_filter('$conn{mallory}', 'application', NULL), itsm_drop_mapping('$conn{mallory}', 'application', 'u_x')");
for my $state ('57014', 'P0004', '57P01', '57P02', 'XX001', '40P01', '40001')
{
	as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_set_source('$conn{mallory}', 'application', 'SELECT a.id AS key, evil.raise(''$state'', repeat(''x'', 3000000)) AS name, ''apm'' AS management_classification FROM evil.apps AS a')");
	for my $args ('', ', applications => ARRAY(SELECT id FROM evil.apps)')
	{
		$run = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_publish('$ns{mallory}'$args)");
		my $row = wait_for_run($node, 'postgres', $run, seconds => 60);
		like($row->{status}, qr/^(?:failed|cancelled)$/, "an error $state ends the run" . ($args ? ' in the worker' : ' in the planner'));
		cmp_ok(length($row->{error_message} // ''), '<=', 2000, 'whatever it says');
	}
}
others_go_on('after errors');
is(sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = $worker"), '0', 'no lock of his is left in the worker');

# ---------------------------------------------------------------- a lock that our functions take
my $holder = $node->background_psql('postgres');
$holder->query_safe("SET ROLE mallory; BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('$conn{mallory}', 7407))");
as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_set_source('$conn{mallory}', 'application', 'SELECT a.id AS key, a.name, ''apm'' AS management_classification FROM evil.apps AS a')");
$run = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_match('$ns{mallory}')");
ok(poll_query($node, 'postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", '1', seconds => 60), 'a run waits for a lock of his');
others_go_on('while he holds a lock');
my $waited = wait_for_run($node, 'postgres', $run, seconds => 60);
is("$waited->{status} $waited->{error_code}", 'failed 55P03', 'his run gives up');
like($waited->{error_message}, qr/somebody is deciding on matches of connection \Q$conn{mallory}\E/, 'and says why');
$holder->query_safe('COMMIT');
$holder->quit;

# ---------------------------------------------------------------- names
# Everything that is called for is shadowed, in the schema of the extension and in one before pg_catalog; each notes who ran it.
my $shadows = '';
for my $schema ('evil', 'public')
{
	my $body = "LANGUAGE plpgsql AS \$\$ BEGIN RAISE LOG 'evil|%|%|$schema|shadow|', pg_backend_pid(), current_user; RETURN NULL; END \$\$;\n";
	my %functions = (
		'now()' => 'timestamptz', 'clock_timestamp()' => 'timestamptz', 'current_setting(text, boolean)' => 'text', 'current_setting(text)' => 'text',
		'lower(text)' => 'text', 'length(text)' => 'integer', 'md5(text)' => 'text', 'left(text, integer)' => 'text', 'quote_ident(text)' => 'text',
		'to_regclass(text)' => 'regclass', 'format(text, text)' => 'text', 'unnest(bigint[])' => 'bigint', 'pg_has_role(name, text)' => 'boolean',
		'gen_random_uuid()' => 'uuid', 'pg_advisory_xact_lock(bigint)' => 'void', 'pg_current_snapshot()' => 'pg_snapshot', 'array_position(text[], text)' => 'integer',
		'jsonb_each_text(jsonb)' => 'text', 'row_security_active(regclass)' => 'boolean',
		'itsm_publish(text)' => 'bigint', 'itsm_preview(text)' => 'bigint', 'itsm_apply(integer)' => 'bigint', 'itsm_set(uuid, text, varchar)' => 'void',
		'itsm_set_filter(uuid, text, varchar)' => 'void', 'itsm_secure(varchar)' => 'void', 'visible_namespaces()' => 'uuid', 'sees_namespace(uuid)' => 'boolean');
	$shadows .= "CREATE FUNCTION $schema.$_ RETURNS $functions{$_} $body" for sort keys %functions;
	for my $type (qw(uuid text bigint integer boolean jsonb timestamptz name oid), '"char"', 'text[]', 'uuid[]')
	{
		(my $fn = "eq_$type") =~ s/\W/_/g;
		$shadows .= "CREATE FUNCTION $schema.$fn($type, $type) RETURNS boolean $body CREATE OPERATOR $schema.= (LEFTARG = $type, RIGHTARG = $type, FUNCTION = $schema.$fn);\n"
		  . "CREATE OPERATOR $schema.<> (LEFTARG = $type, RIGHTARG = $type, FUNCTION = $schema.$fn); CREATE OPERATOR $schema.< (LEFTARG = $type, RIGHTARG = $type, FUNCTION = $schema.$fn);\n";
	}
	# an operator that fits better than PostgreSQL's own, which needs a cast
	$shadows .= "CREATE FUNCTION $schema.mixed(text, uuid) RETURNS boolean $body CREATE OPERATOR $schema.= (LEFTARG = text, RIGHTARG = uuid, FUNCTION = $schema.mixed);\n"
	  . "CREATE FUNCTION $schema.cat(text, bigint) RETURNS text $body CREATE OPERATOR $schema.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = $schema.cat);\n"
	  . "CREATE FUNCTION $schema.never(pg_catalog.text) RETURNS boolean $body CREATE DOMAIN $schema.text AS pg_catalog.text CHECK ($schema.never(VALUE));\n"
	  . "CREATE TABLE $schema.pg_class (oid oid); CREATE VIEW $schema.pg_roles AS SELECT NULL::name AS rolname;\n";
}
sql("SET ROLE mallory; SET check_function_bodies = off; $shadows");
# the worker's session begins with that, and so do those in which something is called; not those in which the test looks on
sql('ALTER DATABASE postgres SET search_path = evil, pg_catalog, public');
$ENV{PGOPTIONS} = '-c search_path=pg_catalog,public';
$node->restart;
wait_for_worker($node, 'postgres');
$worker = worker_pid($node, 'postgres');
said();
(%pids, %users) = ();
# what is given has its type, in the form in which nothing has to be looked up
my $call = sub {
	my ($role, $statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "SET client_min_messages = error; SET ROLE $role; SET site.namespace = '$ns{victim}'; SET search_path = evil, pg_catalog, public; $statement");
	return $rc == 0 ? $out : "ERROR $err";
};
my $source = 'SELECT a.id AS key, a.name, a.note AS description, \'\'operational\'\'::pg_catalog.text AS operational_status, \'\'apm\'\'::pg_catalog.text AS management_classification FROM victim.apps AS a';
my ($t, $u) = ('pg_catalog.text', 'pg_catalog.uuid');
for my $role ('victim', 'postgres')
{
	unlike($call->($role, "SELECT public.itsm_set('$conn{victim}'::$u, 'batch_items'::$t, '7'::$t); SELECT public.itsm_set('$conn{victim}'::$u, 'filter.application'::$t, 'name IS NOT NULL'::$t);
		SELECT public.itsm_set_source('$conn{victim}'::$u, 'application'::$t, '$source'::$t); SELECT public.itsm_activate('$conn{victim}'::$u, true);
		SELECT public.itsm_set_writer('$conn{victim}'::$u, 'application'::$t, 'victim.apps'::$t, 'id'::$t, '{\"name\": \"name\", \"comments\": {\"column\": \"note\", \"value\": \"upper(value)\"}}'::pg_catalog.jsonb);
		SELECT public.itsm_schedule('$conn{victim}'::$u, 'manual'::$t)"), qr/ERROR/, "$role changes a connection");
	my ($preview) = $call->($role, "SELECT public.itsm_preview('$ns{victim}'::$u)") =~ /^(\d+)$/;
	ok($preview, "$role has a plan made");
	is($call->($role, "CALL public.itsm_wait($preview\::pg_catalog.int8)"), '', 'waits for it');
	unlike($call->($role, "SELECT * FROM public.itsm_plan($preview\::pg_catalog.int8); SELECT * FROM public.itsm_explain($preview\::pg_catalog.int8);
		SELECT public.itsm_graph('$ns{victim}'::$u); SELECT * FROM public.itsm_test_connection('$conn{victim}'::$u); SELECT * FROM public.integration_status; SELECT * FROM public.integration_plan;
		SELECT public.itsm_cancel($preview\::pg_catalog.int8)"), qr/ERROR/, 'looks at it, and cancels it');
}
unlike($call->('postgres', "SELECT public.itsm_secure('namespace_id::pg_catalog.text = current_setting(''site.namespace'', true)'::$t); SELECT public.itsm_grant('victim'::pg_catalog.name, 'admin'::$t);
	SELECT public.itsm_watch('victim.apps'::pg_catalog.regclass, 'application'::$t, 'id'::pg_catalog.name)"), qr/ERROR/, 'the superuser decides who sees what');
is($call->('postgres', "SELECT ok, reason FROM pgsync_itsm.try_write('$conn{victim}'::$u, 'application'::$t, (SELECT pg_catalog.min(a.id::$t) FROM victim.apps AS a), '{comments}'::pg_catalog._text, '{among shadows}'::pg_catalog._text);
	SELECT changed_at FROM pgsync_itsm.changed_here('$conn{victim}'::$u, 'application'::$t, '{x}'::pg_catalog._text)"), 't|', 'a record is written');
is(sql("SELECT count(*) FROM victim.apps WHERE note = 'AMONG SHADOWS'"), '1', 'and is there');
others_go_on('among shadows');
my $through = sql("SELECT max(id) FROM integration_runs WHERE connection_id = '$conn{victim}' AND status = 'done'");
is($call->('victim', "CALL public.itsm_wait($through\::pg_catalog.int8, true)"), '', 'which is waited for');
is_deeply(said(\%pids, \%users), {}, 'no function of his was called by any of this');
sql('ALTER DATABASE postgres RESET search_path');
delete $ENV{PGOPTIONS};
sql("DROP FUNCTION $_") for split /\n/, sql(q{SELECT format('%s CASCADE', p.oid::regprocedure) FROM pg_proc AS p WHERE p.proowner = 'mallory'::regrole AND p.prosrc LIKE '%|shadow|%' ORDER BY p.oid});

# ---------------------------------------------------------------- his tables, and ours
sql(<<'SQL');
SET ROLE mallory;
CREATE FUNCTION evil.fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.try_caller(); RETURN NEW; END $$;
CREATE FUNCTION evil.default() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.try_caller(); RETURN 'x'; END $$;
ALTER TABLE evil.apps ALTER COLUMN note SET DEFAULT evil.default();
CREATE TRIGGER a_fires BEFORE INSERT OR UPDATE ON evil.apps FOR EACH ROW EXECUTE FUNCTION evil.fires();
CREATE CONSTRAINT TRIGGER z_fires AFTER INSERT ON evil.apps DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.fires();
SQL
sql("SELECT itsm_watch('evil.apps', 'application', 'id')");
as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_set_source('$conn{mallory}', 'application', 'SELECT a.id AS key, a.name, a.note AS description, ''operational'' AS operational_status, ''apm'' AS management_classification FROM evil.apps AS a'), itsm_schedule('$conn{mallory}', 'on_change')");
$run = as('mallory', "SET site.namespace = '$ns{mallory}'; SELECT itsm_publish('$ns{mallory}', confirm => true)");
is(wait_for_run($node, 'postgres', $run)->{status}, 'done', 'a first publish');
said();
(%pids, %users) = ();
# a session of his own: in one of a superuser who has set a role, that role is anybody's to reset
my ($rc, $out, $err) = $node->psql('postgres', "SET site.namespace = '$ns{mallory}'; INSERT INTO evil.apps (id, name) VALUES ('99999999-0000-4000-8000-000000000001', 'Mallory 9')", extra_params => [ '-U', 'mallory' ]);
is($rc, 0, 'he writes to his table') or diag($err);
my %allowed = ('set role by set_config' => '42501', 'reset role' => 'done', 'reset authorization' => 'done');
check_said('his default and triggers', said(\%pids, \%users), map { [ $_->[0], $_->[1], $_->[2] && $allowed{ $_->[0] } // $_->[2] ] } @attempts);
is_deeply([ keys %users ], ['mallory'], 'as himself, also at the end of the transaction where ours writes');
ok(poll_query($node, 'postgres', "SELECT count(*) FROM integration_runs AS r WHERE r.connection_id = '$conn{mallory}' AND r.origin = 'on_change' AND r.partial AND r.status = 'done'", '1', seconds => 60), 'the change is published');
is_deeply(said(), {}, 'which fires nothing');

for my $statement (
	'CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION evil.fires()', 'CREATE RULE r AS ON INSERT TO %s DO ALSO SELECT evil.try_caller()',
	'ALTER TABLE %s ADD COLUMN x text DEFAULT evil.default()', 'CREATE POLICY p ON %s USING (evil.try_caller() IS NULL)', 'CREATE TABLE evil.child () INHERITS (%s)',
	'CREATE INDEX ON %s (evil.default())', 'CREATE STATISTICS evil.s ON namespace_id, (evil.default()) FROM %s', 'COMMENT ON TABLE %s IS NULL', 'ALTER TABLE %s DISABLE ROW LEVEL SECURITY', 'DROP TABLE %s')
{
	for my $table ('public.integration_queue', 'public.integration_connections', 'pgsync_itsm.integration_secrets')
	{
		like(as('mallory', sprintf($statement, $table)), qr/ERROR.*(?:permission denied|must be owner)/, sprintf($statement, $table));
	}
}
for my $statement ('CREATE TABLE evil.refers (id uuid REFERENCES public.integration_connections (id))', 'CREATE FUNCTION pgsync_itsm.mine() RETURNS text LANGUAGE sql AS $$ SELECT NULL $$',
	'CREATE OR REPLACE FUNCTION public.itsm_adopt(connection_id uuid DEFAULT NULL) RETURNS void LANGUAGE sql AS $$ SELECT $$', 'DROP FUNCTION public.itsm_adopt(uuid)',
	'ALTER EXTENSION pgsync_itsm ADD FUNCTION evil.fires()', 'CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION evil.fires()')
{
	like(as('mallory', $statement), qr/ERROR.*(?:permission denied|must be owner)/, $statement);
}

# ---------------------------------------------------------------- what he gained
is(sql("SELECT count(*) FROM pg_roles WHERE rolname = 'mallory' AND (rolsuper OR rolcreaterole OR rolbypassrls)") . sql("SELECT count(*) FROM pg_auth_members WHERE member = 'mallory'::regrole"), '00', 'he is what he was');
is(sql('SELECT count(*) FROM evil.loot'), '0', 'and took nothing');
others_go_on('in the end');
$node->stop;
done_testing();
