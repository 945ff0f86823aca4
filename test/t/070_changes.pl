# Breaks: transactions that are rolled back in part, prepared, older than the activation, from fifty sessions at once, or
# that spoil the source they change; every statement that can change a row.
# Compares: what one transaction made of itself there with what it left here, transaction by transaction; in the end the
# whole portfolio, set against set.

use strict;
use warnings;
use FindBin;
use JSON::PP ();
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmCompare;
use PostgreSQL::Test::Utils;
use Test::More;

my $city   = '11111111-1111-4111-8111-111111111111';
my $county = '22222222-2222-4222-8222-222222222222';
my $third  = '33333333-3333-4333-8333-333333333333';
my $app    = 'aaaaaaaa-0001-4000-8000-0000000000';
my $sage   = "${app}01";
my $prod   = 'dddddddd-0001-4000-8000-000000000101';

my $node = new_cluster(name => 'changes', conf => "pgsync_itsm.debounce = 0\nmax_prepared_transactions = 5\nmax_connections = 100\n");
load_getinsync($node, 'postgres');
my @options = ('--switch', 'choice_cache_seconds=0'); # registering the data source is another test's matter
my %sim = map { $_ => start_simulator(options => [@options]) } $city, $county, $third;
load_platform($_) for @sim{ $city, $county };
my %conn;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Nothing is queued, open, or to be planned in full.
sub settled
{
	my ($name) = @_;
	return ok(poll_query($node, 'postgres',
			"SELECT NOT EXISTS (SELECT FROM integration_queue) AND NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))
			    AND NOT EXISTS (SELECT FROM integration_connections WHERE is_active AND full_plan_after IS NOT NULL)"), "$name: ends");
}

# What the platforms were sent by this: the items, one a line; nothing is counted as sent that the simulators did not see.
sub sent
{
	my ($name, $change) = @_;
	my $last = sql('SELECT coalesce(max(id), 0) FROM integration_runs');
	$_->reset_counters for values %sim;
	ref $change ? $change->() : sql($change);
	settled($name);
	my $items = sql("SELECT string_agg(entity_type || ' ' || action || ' ' || state || ' ' || label, E'\\n' ORDER BY ord, label)
			FROM integration_run_items WHERE run_id > $last AND state NOT IN ('skipped', 'held') AND action <> 'ERROR'");
	my $writes = 0;
	$writes += $_->stats->{writes} for values %sim;
	ok(($items eq '') == ($writes == 0), "$name: the items are what was written") or diag("$writes writes\n$items");
	return $items;
}

sub sends { my ($name, $change, $items) = @_; return is(sent($name, $change), $items, $name) }
sub sends_nothing { return sends("$_[0]: nothing is sent", $_[1], '') }

# One of a platform's records, by our key.
sub there
{
	my ($key, $table, $ns) = @_;
	$key   //= $sage;
	$table //= 'cmdb_ci_business_app';
	my ($row) = grep { ($_->{correlation_id} // '') eq $key } @{ $sim{ $ns // $city }->dump($table)->{$table} };
	return $row;
}
sub short_there { return there(@_)->{short_description} }

sub set { my ($text, $id) = @_; return "UPDATE applications SET short_description = '$text' WHERE id = '" . ($id // $sage) . "'" }

# What the slow poll finds takes a second here: prepared transactions, a plan in full after an activation.

# ---- older than the activation -------------------------------------------------------------------

my %open = map { $_ => $node->background_psql('postgres') } qw(unfollowed committed repeatable rolled_back);
$open{unfollowed}->query_safe('BEGIN; ' . set('Before any connection', "${app}20"));
$conn{$city} = connect_and_activate($node, 'postgres', $sim{$city}, namespace => $city, activate => 0, args => { sync_schedule => "'on_change'" });
$open{committed}->query_safe('BEGIN; ' . set('Began before', "${app}01"));
$open{rolled_back}->query_safe('BEGIN; ' . set('Never', "${app}08"));
$open{repeatable}->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM applications');
sql('BEGIN; ' . set('Prepared before', "${app}05") . "; PREPARE TRANSACTION 'before'");
sql("SELECT itsm_activate('$conn{$city}')");
is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published while older transactions are open');
isnt(short_there(), 'Began before', 'without what is not committed');
$open{repeatable}->query_safe(set('Snapshot of before', "${app}06") . '; COMMIT');
$open{$_}->query_safe('COMMIT') for qw(unfollowed committed);
$open{rolled_back}->query_safe('ROLLBACK');
$_->quit for values %open;
sql("COMMIT PREPARED 'before'");
settled('older than the activation');
is(short_there("${app}01"), 'Began before',       'a transaction older than the activation is sent when it commits');
is(short_there("${app}20"), 'Before any connection', 'so is one that changed something before there was a connection');
is(short_there("${app}05"), 'Prepared before',    'one that was prepared before');
is(short_there("${app}06"), 'Snapshot of before', 'and one that changed something later, with an old snapshot');
isnt(short_there("${app}08"), 'Never', 'and not one that is rolled back');

# ---- transactions --------------------------------------------------------------------------------

my $one = 'application UPDATE done Sage 300';
sends('a transaction that commits', set('Committed'), $one);
is(short_there(), 'Committed', 'the platform has it');
sends_nothing('a transaction that rolls back', 'BEGIN; ' . set('Never') . '; ROLLBACK');
sends_nothing('a savepoint that is rolled back', 'BEGIN; SAVEPOINT a; ' . set('Never') . '; ROLLBACK TO a; COMMIT');
my ($second, $third_label) = map { sql("SELECT name FROM applications WHERE id = '$app$_'") } qw(05 06);
sends('the rest of a transaction whose savepoint is rolled back', 'BEGIN; ' . set('Kept', "${app}05") . '; SAVEPOINT a; ' . set('Never') . '; ROLLBACK TO a; COMMIT',
	"application UPDATE done $second");
sends('what follows a savepoint that is rolled back', 'BEGIN; SAVEPOINT a; ' . set('Never') . '; ROLLBACK TO a; ' . set('Afterwards') . '; COMMIT', $one);
is(short_there(), 'Afterwards', 'is sent as it is');
sends('a savepoint that is released', 'BEGIN; SAVEPOINT a; ' . set('Released') . '; RELEASE a; COMMIT', $one);
sends_nothing('a savepoint that is released within one that is rolled back',
	'BEGIN; SAVEPOINT a; SAVEPOINT b; ' . set('Never') . '; RELEASE b; ROLLBACK TO a; COMMIT');
sends('a plpgsql block and its exception', 'DO $$ BEGIN ' . set('Kept by plpgsql') . '; BEGIN ' . set('Never', "${app}05")
	  . q(; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$), $one);
sends('a row changed twice in a transaction', 'BEGIN; ' . set('First') . '; ' . set('Second') . '; COMMIT', $one);
is(short_there(), 'Second', 'what is there is the last of it');
sends_nothing('a change and its reversal in one transaction', 'BEGIN; ' . set('Never') . '; ' . set('Second') . '; COMMIT');
# long texts, stored out of line, are noted in vain; rows that were ever written to the queue: the one that one more change needs shows that all are counted
my $queued = "SELECT pg_stat_get_tuples_inserted('integration_queue'::regclass)";
my $rows = sql($queued) + 1;
sends_nothing('columns that no mapping reads', "UPDATE applications SET branch = 'Harbour', external_id = 'X-1', owner = 'Nobody' WHERE length(description) < 2000;
	UPDATE deployment_profiles SET tech_debt_rating = 3, tech_skill_rating = 4; UPDATE applications SET short_description = short_description WHERE length(description) < 2000");
sends('a change afterwards', set('Counted'), $one);
ok(poll_query($node, 'postgres', $queued, $rows), 'nor queued');
unlike(join(' ', map { $_->{body} // '' } @{ $sim{$city}->get('/__sim/requests?n=100000')->{requests} }), qr/Never/, 'nothing of what never was is there');

# ---- statements ----------------------------------------------------------------------------------

my $space = sql("SELECT workspace_id FROM applications WHERE id = '$sage'");
sub new_app { my ($n) = @_; return "('00000070-0000-4000-8000-0000000000$n', '$space', 'Changes $n')" }
my $columns = 'applications (id, workspace_id, name)';

sends('COPY', "COPY $columns FROM stdin;\n00000070-0000-4000-8000-000000000001\t$space\tChanges 01\n00000070-0000-4000-8000-000000000002\t$space\tChanges 02\n\\.\n",
	"application CREATE done Changes 01\napplication CREATE done Changes 02");
sends('INSERT ON CONFLICT DO UPDATE',
	"INSERT INTO $columns VALUES " . new_app('02') . ', ' . new_app('03') . " ON CONFLICT (id) DO UPDATE SET short_description = 'By upsert'",
	"application UPDATE done Changes 02\napplication CREATE done Changes 03");
is(short_there('00000070-0000-4000-8000-000000000002'), 'By upsert', 'the row that was there is changed');
sends_nothing('INSERT ON CONFLICT DO NOTHING', "INSERT INTO $columns VALUES " . new_app('02') . ' ON CONFLICT DO NOTHING');
sends('MERGE', "MERGE INTO applications AS a USING (VALUES " . new_app('01') . ', ' . new_app('04') . ") AS v (id, space, name) ON a.id = v.id::uuid
	WHEN MATCHED THEN UPDATE SET short_description = 'By merge' WHEN NOT MATCHED THEN INSERT (id, workspace_id, name) VALUES (v.id::uuid, v.space::uuid, v.name)",
	"application UPDATE done Changes 01\napplication CREATE done Changes 04");
sends('UPDATE in the name of logical replication', 'SET session_replication_role = replica; ' . set('By replica'), $one);
is(short_there(), 'By replica', 'is there');
sends('a record made and changed in one transaction', "BEGIN; INSERT INTO $columns VALUES " . new_app('05') . '; ' . set('At once', '00000070-0000-4000-8000-000000000005') . '; COMMIT',
	'application CREATE done Changes 05');
sends_nothing('a record made and deleted in one transaction',
	"BEGIN; INSERT INTO $columns VALUES " . new_app('06') . "; DELETE FROM applications WHERE name = 'Changes 06'; COMMIT");

# a clerk who may work on the application's tables, through the policies of these, and on nothing of ours
my $editor = '{"sub": "eeeeeeee-0001-4000-8000-000000000002"}';
is(sql("SELECT has_table_privilege('authenticated', 'integration_queue', 'INSERT') OR has_table_privilege('authenticated', 'integration_connections', 'SELECT')
	        OR has_schema_privilege('authenticated', 'pgsync_itsm', 'USAGE')"), 'f', 'a clerk has no right to anything of ours');
sql("INSERT INTO user_sessions (user_id, current_namespace_id) VALUES ('eeeeeeee-0001-4000-8000-000000000002', '$city')
	ON CONFLICT (user_id) DO UPDATE SET current_namespace_id = excluded.current_namespace_id");
sends('a role without rights to anything of ours', "SET ROLE authenticated; SET request.jwt.claims = '$editor'; " . set('By a clerk'), $one);
is(short_there(), 'By a clerk', 'is there');

# ---- links ---------------------------------------------------------------------------------------

sub relations { return @{ $sim{$city}->dump('cmdb_rel_ci')->{cmdb_rel_ci} } }
sub deletes { return sql("SELECT count(*) FROM integration_sync_log WHERE operation = 'delete'") }

my $link = sql("SELECT l.id FROM deployment_profile_it_services l JOIN integration_sync_map m ON m.parent_id = l.deployment_profile_id AND m.child_id = l.it_service_id
	WHERE l.deployment_profile_id <> '$prod' ORDER BY l.id LIMIT 1");
my ($row) = split /\n/, sql("SELECT m.external_id FROM deployment_profile_it_services l JOIN integration_sync_map m
	ON m.parent_id = l.deployment_profile_id AND m.child_id = l.it_service_id WHERE l.id = '$link'");
my %before = map { $_->{sys_id} => 1 } relations();
my $deletes = deletes();
like(sent('a link that is deleted', "DELETE FROM deployment_profile_it_services WHERE id = '$link'"), qr/^depends_on DELETE done [^\n]*$/, 'a link that is deleted is one item');
delete $before{ $_->{sys_id} } for relations();
is(join(' ', keys %before), $row, 'its row goes, and no other');
is(deletes() - $deletes, 1, 'by one DELETE');
is($sim{$city}->stats->{writes}, 1, 'which is all that was written');

# the same rows again, as an import does it: one of them is missing now
my $all = sql('SELECT count(*) FROM deployment_profile_it_services');
$link = sql("SELECT l.id FROM deployment_profile_it_services l JOIN integration_sync_map m ON m.parent_id = l.deployment_profile_id AND m.child_id = l.it_service_id ORDER BY l.id LIMIT 1");
like(sent('TRUNCATE, and all but one again', "BEGIN; CREATE TEMP TABLE old AS TABLE deployment_profile_it_services; TRUNCATE deployment_profile_it_services;
	INSERT INTO deployment_profile_it_services SELECT * FROM old WHERE id <> '$link'; COMMIT"), qr/^depends_on DELETE done [^\n]*$/, 'TRUNCATE, and all but one again: one row goes');
sends_nothing('TRUNCATE that is rolled back', 'BEGIN; TRUNCATE deployment_profile_it_services; ROLLBACK');

# cascaded deletes
my $gone = '00000070-0000-4000-8000-000000000001';
my $profile = sql("UPDATE deployment_profiles SET sn_sync_scope = 'application_service' WHERE application_id = '$gone' RETURNING id");
my $service = sql("SELECT entity_id FROM integration_sync_map WHERE entity_type = 'it_service' ORDER BY entity_id LIMIT 1");
sent('something to delete', "INSERT INTO deployment_profile_it_services (deployment_profile_id, it_service_id) VALUES ('$profile', '$service')");
my $profile_there = there($profile, 'cmdb_ci_service_auto');
my %links = map { $_->{sys_id} => 1 } grep { $_->{parent} eq $profile_there->{sys_id} || $_->{child} eq $profile_there->{sys_id} } relations();
is(scalar keys %links, 2, 'an application with a service that depends on another');
sends('an application that is deleted', "DELETE FROM applications WHERE id = '$gone'", "application UPDATE done Changes 01\ndeployment_profile UPDATE done Changes 01 - Prod");
is(there($gone)->{operational_status}, '6', 'an application that is deleted is retired');
is(there($profile, 'cmdb_ci_service_auto')->{operational_status}, '6', 'so is its profile, by cascade');
is(scalar(grep { $links{ $_->{sys_id} } } relations()), 2, 'what is retired keeps its relationships');

# ---- two-phase commit ----------------------------------------------------------------------------

sends_nothing('PREPARE TRANSACTION', 'BEGIN; ' . set('Prepared') . "; PREPARE TRANSACTION 'changes'");
sends('COMMIT PREPARED', "COMMIT PREPARED 'changes'", $one);
is(short_there(), 'Prepared', 'is there');
sends_nothing('ROLLBACK PREPARED', sub { sql('BEGIN; ' . set('Never') . "; PREPARE TRANSACTION 'changes'"); sql("ROLLBACK PREPARED 'changes'") });
sql('BEGIN; ' . set('Prepared long ago') . "; PREPARE TRANSACTION 'changes'");
sql('BEGIN; ' . set('Never', "${app}05") . "; PREPARE TRANSACTION 'in vain'");
$node->restart;
sends_nothing('ROLLBACK PREPARED after a restart', "ROLLBACK PREPARED 'in vain'");
sends('COMMIT PREPARED after a restart', "COMMIT PREPARED 'changes'", $one);
is(short_there(), 'Prepared long ago', 'is there');

# ---- tenants -------------------------------------------------------------------------------------

sends_nothing('a change of a namespace without a connection', "UPDATE applications SET short_description = 'Elsewhere' WHERE workspace_id IN (SELECT id FROM workspaces WHERE namespace_id = '$county')");
$conn{$county} = connect_and_activate($node, 'postgres', $sim{$county}, namespace => $county, args => { sync_schedule => "'on_change'" });
is(publish_and_wait($node, 'postgres', $county)->{status}, 'done', 'the other namespace is published');
settled('the other namespace');
my $moved = '00000070-0000-4000-8000-000000000003';
my %was = %{ there($moved) };
my $home = sql("SELECT id FROM workspaces WHERE namespace_id = '$county' ORDER BY id LIMIT 1");
sends('a record moved to another namespace', "UPDATE applications SET workspace_id = '$home', short_description = 'Moved' WHERE id = '$moved'", 'application CREATE done Changes 03');
is(short_there($moved, undef, $county), 'Moved', 'it is made on the platform of that one');
is_deeply(there($moved), \%was, 'and left alone on the first one\'s: absence is not deletion');
sends('a record that moved', "UPDATE applications SET short_description = 'Lives here' WHERE id = '$moved'", 'application UPDATE done Changes 03');
is_deeply(there($moved), \%was, 'is changed there only');
sends('a record that moves back', "UPDATE applications SET workspace_id = '$space', short_description = 'Home again' WHERE id = '$moved'", 'application UPDATE done Changes 03');
is(short_there($moved), 'Home again', 'is where it was');

# ---- partitions ----------------------------------------------------------------------------------

sql("INSERT INTO namespaces (id, name, slug) VALUES ('$third', 'Third', 'third') ON CONFLICT DO NOTHING;
	CREATE TABLE machine (region text, id uuid, ns uuid, name text, note text, size integer, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
	CREATE TABLE machine_north PARTITION OF machine FOR VALUES IN ('north');
	CREATE TABLE machine_south PARTITION OF machine FOR VALUES IN ('south')");
$conn{$third} = connect_and_activate($node, 'postgres', $sim{$third}, namespace => $third, activate => 0, args => { sync_schedule => "'on_change'" });
sql("SELECT itsm_set_filter('$conn{$third}', 'application', '');
	SELECT itsm_set_source('$conn{$third}', 'application', 'SELECT id AS key, name, note AS short_description, ''operational''::text AS operational_status FROM public.machine WHERE ns = \$1');
	SELECT itsm_watch('machine', 'application', 'id', columns => '{name,note,ns}');
	INSERT INTO machine SELECT 'north', ('00000071-0000-4000-8000-00000000000' || n)::uuid, '$third', 'Machine ' || n, 'first', 1 FROM generate_series(1, 4) AS n;
	SELECT itsm_activate('$conn{$third}')");
is(publish_and_wait($node, 'postgres', $third)->{status}, 'done', 'a partitioned table is published');
settled('a partitioned table');
my $machine = '00000071-0000-4000-8000-00000000000';
sub note_there { return short_there("$machine$_[0]", undef, $third) }
is(note_there(1), 'first', 'its rows are there');
sends('a row of a partition', "UPDATE machine_north SET note = 'second' WHERE id = '${machine}1'", 'application UPDATE done Machine 1');
sends_nothing('a column of a partitioned table that is not watched', "UPDATE machine SET size = size + 1");
sends_nothing('a row that moves between partitions, as it is', "UPDATE machine SET region = 'south' WHERE id = '${machine}1'");
is(there("${machine}1", undef, $third)->{operational_status}, there("${machine}2", undef, $third)->{operational_status}, 'is not retired');
sends('a row that moves between partitions and changes', "UPDATE machine SET region = 'south', note = 'third' WHERE id = '${machine}2'", 'application UPDATE done Machine 2');
is(note_there(2), 'third', 'is there');
sends('a row of a new partition', "CREATE TABLE machine_west PARTITION OF machine FOR VALUES IN ('west'); INSERT INTO machine VALUES ('west', '${machine}5', '$third', 'Machine 5', 'new', 1)",
	'application CREATE done Machine 5');
sends('COPY into a partitioned table', "COPY machine FROM stdin;\nsouth\t${machine}6\t$third\tMachine 6\tcopied\t1\n\\.\n", 'application CREATE done Machine 6');
sends_nothing('a row deleted where the key is not the primary key by itself', "DELETE FROM machine WHERE id = '${machine}5'");
is(there("${machine}5", undef, $third)->{operational_status}, '1', 'is no record deleted: left alone');

# ---- a source that fails -------------------------------------------------------------------------

my $last = sql('SELECT max(id) FROM integration_runs');
sql("BEGIN; UPDATE machine SET note = 'under the old name' WHERE id = '${machine}3'; ALTER TABLE machine RENAME COLUMN note TO remark;
	UPDATE machine SET remark = 'under the new name' WHERE id = '${machine}4'; " . set('Not concerned') . '; COMMIT');
ok(poll_query($node, 'postgres', "SELECT count(*) > 0 FROM integration_runs WHERE id > $last AND status = 'failed'"), 'a source that the same transaction breaks: it commits, the run fails');
like(sql("SELECT error_code || ' ' || error_message FROM integration_runs WHERE id > $last AND status = 'failed' ORDER BY id LIMIT 1"), qr/^42703 .*column "note" does not exist/, 'and says what is missing');
ok(poll_until(sub { short_there() eq 'Not concerned' }), 'another namespace is not concerned');
ok(poll_query($node, 'postgres', "SELECT coalesce(bool_or(NOT partial), false) FROM integration_runs WHERE id > $last AND status = 'failed'"), 'the plan in full that follows fails, too');
sql("BEGIN; ALTER TABLE machine RENAME COLUMN remark TO note; UPDATE machine SET note = 'mended' WHERE id = '${machine}1'; COMMIT");
ok(poll_until(sub { note_there(1) eq 'mended' }), 'mended, the next change is sent');
settled('mended');
is(note_there(3), 'under the old name', 'with what failed before');
is(note_there(4), 'under the new name', 'all of it');
sql('ALTER TABLE machine DROP COLUMN size');
sends('after a column was dropped', "BEGIN; ALTER TABLE machine DROP COLUMN name; ROLLBACK; UPDATE machine SET note = 'fewer columns' WHERE id = '${machine}4'", 'application UPDATE done Machine 4');
sql("SELECT itsm_activate('$conn{$third}', false); SELECT itsm_unwatch('machine'); DROP TABLE machine");
sends('when that table is gone', set('Still here'), $one);

# ---- fifty sessions ------------------------------------------------------------------------------

sub fifty
{
	my $ns = 'f1f1f1f1-0000-4000-8000-000000000070';
	my $sim = $sim{$ns} = start_simulator(options => [@options]);
	sql("SELECT getinsync_generate(applications => 40, profiles => 2, services => 6, products => 4, namespace => '$ns')");
	sql("SELECT itsm_set_scope('$ns', 'application_service')");
	$sim->load(JSON::PP::decode_json(sql("SELECT getinsync_generate_platform('$ns')")));
	my $before = remember($sim);
	my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $ns, args => { sync_schedule => "'on_change'" }, settings => { shrink_percent => 100 });
	is(publish_and_wait($node, 'postgres', $ns)->{status}, 'done', 'a generated portfolio is published');
	my $apps = "(SELECT a.id FROM applications a JOIN workspaces w ON w.id = a.workspace_id WHERE w.namespace_id = '$ns' ORDER BY random() LIMIT 1)";
	my $profiles = "(SELECT p.id FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id WHERE w.namespace_id = '$ns' ORDER BY random() LIMIT 1)";
	my $services = "(SELECT id FROM it_services WHERE namespace_id = '$ns' ORDER BY random() LIMIT 1)";
	my $products = "(SELECT id FROM software_products WHERE namespace_id = '$ns' ORDER BY random() LIMIT 1)";
	my %script = (
		update => [6, "UPDATE applications SET short_description = 'Changed ' || random() WHERE id = $apps;"],
		twice => [2, "BEGIN; UPDATE applications SET description = 'Text ' || random() WHERE id = $apps; SAVEPOINT a;
			UPDATE applications SET short_description = 'never' WHERE id = $apps; ROLLBACK TO a; COMMIT;"],
		profile => [5, "UPDATE deployment_profiles SET version = left(random()::text, 8), operational_status = CASE WHEN random() < 0.5 THEN 'operational' ELSE 'non-operational' END WHERE id = $profiles;"],
		rollback => [1, "BEGIN; UPDATE applications SET short_description = 'never' WHERE id = $apps; DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = $profiles; ROLLBACK;"],
		insert => [2, "WITH a AS (INSERT INTO applications (workspace_id, name, short_description) SELECT id, 'New ' || gen_random_uuid(), 'New' FROM workspaces WHERE namespace_id = '$ns' LIMIT 1 RETURNING id)
			INSERT INTO application_contacts (application_id, contact_id, role_type, is_primary) SELECT a.id, (SELECT min(id::text)::uuid FROM contacts WHERE namespace_id = '$ns'), 'business_owner', true FROM a;"],
		scope => [2, "UPDATE deployment_profiles SET sn_sync_scope = 'application_service' WHERE sn_sync_scope = 'none' AND id = (SELECT id FROM deployment_profiles WHERE sn_sync_scope = 'none'
			AND application_id IN (SELECT id FROM applications WHERE name LIKE 'New %') ORDER BY random() LIMIT 1);"],
		delete => [1, "DELETE FROM applications WHERE id = $apps;"],
		link => [3, "WITH p AS (SELECT id FROM deployment_profiles WHERE id = $profiles FOR KEY SHARE) INSERT INTO deployment_profile_it_services (deployment_profile_id, it_service_id, relationship_type)
			SELECT p.id, $services, 'depends_on' FROM p ON CONFLICT DO NOTHING;"],
		install => [2, "WITH p AS (SELECT id FROM deployment_profiles WHERE id = $profiles FOR KEY SHARE) INSERT INTO deployment_profile_software_products (deployment_profile_id, software_product_id)
			SELECT p.id, $products FROM p;"],
		unlink => [3, "DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = $profiles AND it_service_id = $services;"],
		uninstall => [1, "DELETE FROM deployment_profile_software_products WHERE deployment_profile_id = $profiles AND software_product_id = $products;"]);
	my $dir = PostgreSQL::Test::Utils::tempdir('pgbench');
	my @files;
	for my $name (sort keys %script)
	{
		append_to_file("$dir/$name.sql", $script{$name}[1] =~ s/\s*\n\s*/ /gr =~ s/; */;\n/gr);
		push @files, '-f', "$dir/$name.sql\@$script{$name}[0]";
	}
	$node->command_ok([ 'pgbench', '-n', '-c', '50', '-j', '2', '-t', '40', '-R', '500', '--max-tries=20', @files, '-h', $node->host, '-p', $node->port, 'postgres' ], 'fifty sessions change the portfolio');
	settled('fifty sessions');
	return ($ns, $sim, $before, $conn);
}
my ($ns, $sim, $before, $conn) = fifty();
diag(sql("SELECT format('%s runs, %s items, %s changes', count(DISTINCT r.id), count(i.id), (SELECT count(*) FROM audit_logs WHERE namespace_id = '$ns'))
	FROM integration_runs r LEFT JOIN integration_run_items i ON i.run_id = r.id WHERE r.connection_id = '$conn' AND r.origin = 'on_change'"));
is(sql("SELECT string_agg(status || ' ' || coalesce(error_message, approval_reason, ''), E'\\n') FROM integration_runs WHERE connection_id = '$conn' AND status <> 'done'"), '', 'every run ended well');
both_sides_equal($node, 'postgres', $ns, $sim, $before, conn => $conn, deleted => 1, name => 'fifty sessions: both sides are equal');

$_->stop for values %sim;
$node->stop;
done_testing();
