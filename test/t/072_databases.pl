# Breaks: of three databases with a portfolio each, one is dropped in the middle of a publish, one loses its extension in
# the middle of one and gets it again, one is renamed; a worker dies at once, each time; the primary goes and its standby
# takes over in the middle of a publish.  Lists of databases are odd and long.
# Judges: what is sent, that what is to happen happens in time, and the server logs: every line that is not a plain LOG
# must be one that is expected.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

sub state_of
{
	my ($node, $db, $column) = @_;
	$column //= 'state';
	return $node->safe_psql('postgres', "SELECT $column FROM itsm_stat_worker WHERE database = " . sql_literal($db));
}

sub restarts
{
	my ($node, $db) = @_;
	return $node->safe_psql('postgres', "SELECT restarts FROM itsm_stat_process WHERE process = 'worker' AND database = " . sql_literal($db));
}

sub set_databases
{
	my ($node, $list) = @_;
	$node->safe_psql('postgres', 'ALTER SYSTEM SET pgsync_itsm.databases = ' . sql_literal($list));
	$node->reload;
	return;
}

sub log_lines
{
	my ($node, $pattern) = @_;
	return grep { /$pattern/ } split /\n/, slurp_file($node->logfile);
}

# The lines of a server log that nobody has to explain but us.
sub is_clean
{
	my ($node, $name, @expected) = @_;
	my @lines = grep { !/(?:LOG|STATEMENT|HINT|DETAIL|CONTEXT|QUERY|DEBUG):  / } grep { /^\d{4}-.* (?:[A-Z]+):  / } split /\n/, slurp_file($node->logfile);
	# told to end: that is how the server puts it for any background worker
	push @expected, qr/FATAL:  terminating background worker "pgsync_itsm (?:launcher|worker|planner)" due to administrator command/,
	  qr/WARNING:  connection [-0-9a-f]+ has not been tested/;
	my @odd = grep { my $line = $_; !grep { $line =~ $_ } @expected } @lines;
	is(join("\n", @odd), '', "$name: nothing in the server log that is not explained");
	return;
}

sub took
{
	my ($seconds, $what, $code) = @_;
	my $begin = time();
	$code->();
	cmp_ok(time() - $begin, '<', $seconds, $what);
	return;
}

# Three portfolios, each published once, each with a platform of its own.
my $node = new_cluster(name => 'primary', databases => 'postgres, one, two, three', allows_streaming => 1, conf => "pgsync_itsm.debounce = 0\n");
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');
my %db;
for my $db (qw(one two three))
{
	my $sim = start_simulator(options => [ '--switch', 'latency_ms=150' ]);
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	load_getinsync($node, $db, generate => { applications => 40, namespace => "'00000000-7e4a-4000-8000-000000000001'::uuid" });
	load_platform($sim, $node, $db);
	$db{$db} = { sim => $sim, ns => namespace_of($node, $db) };
	$db{$db}{conn} = connect_and_activate($node, $db, $sim, namespace => $db{$db}{ns}, batch_items => 10);
	is(publish_and_wait($node, $db, $db{$db}{ns})->{status}, 'done', "$db: a first publish");
}

# Changes everything, begins a publish and returns its run when it has sent something and has more to send.
my $round = 0;

sub begin_publish
{
	my ($node, $db) = @_;
	$round++;
	# small bites: what is under way is so for long enough to be seen
	$node->safe_psql($db, "SELECT itsm_set('$db{$db}{conn}', 'batch_items', '4'); UPDATE applications SET short_description = 'round $round'");
	my ($run) = publish_runs($node, $db, $db{$db}{ns});
	ok( poll_until(
			sub { $node->safe_psql($db, "SELECT status = 'running' AND EXISTS (SELECT FROM integration_run_items WHERE run_id = r.id AND state = 'done')
				FROM integration_runs AS r WHERE id = $run") eq 't' }),
		"$db: a publish is under way");
	return $run;
}

sub arrived
{
	my ($db, $text) = @_;
	return scalar grep { ($_->{short_description} // '') eq $text } @{ $db{$db}{sim}->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
}

sub is_without_duplicates
{
	my ($db) = @_;
	my $duplicates = $db{$db}{sim}->stats->{duplicates};
	is($duplicates->{$_}{count}, 0, "$db: no duplicates there: $_") for qw(correlation_id relations);
	return;
}

# dropped in the middle of a publish; the others go on
my $other = begin_publish($node, 'two');
ok(poll_until(sub { $node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm worker' AND datname = 'two'") =~ /^pgsync_itsm: waiting for answers to \d+ requests$/ }),
	'a worker with requests on the wire says so');
begin_publish($node, 'one');
took(2, 'DROP DATABASE WITH (FORCE) in the middle of a publish', sub { $node->safe_psql('postgres', 'DROP DATABASE one WITH (FORCE)') });
ok(poll_until(sub { state_of($node, 'one') eq '' }), 'its row goes');
is(wait_for_run($node, 'two', $other)->{status}, 'done', 'a publish of another database ends well');

# the extension dropped in the middle of a publish, and created again
begin_publish($node, 'two');
took(2, 'DROP EXTENSION in the middle of a publish', sub { $node->safe_psql('two', 'DROP EXTENSION pgsync_itsm CASCADE') });
ok(poll_until(sub { state_of($node, 'two') eq 'no extension' }), 'the worker has nothing to serve');
my $begin = time();
$node->safe_psql('two', 'CREATE EXTENSION pgsync_itsm');
ok(poll_until(sub { worker_pid($node, 'two') ne '' }), 'created again, it has a worker');
cmp_ok(time() - $begin, '<', 1.5, 'soon');
$node->safe_psql('two', "SELECT itsm_attach_getinsync(); SELECT itsm_set_scope('$db{two}{ns}', 'application_service')");
$db{two}{conn} = connect_and_activate($node, 'two', $db{two}{sim}, namespace => $db{two}{ns}, prepare => 0);
my $again = publish_and_wait($node, 'two', $db{two}{ns});
is($again->{status}, 'done', 'what was published before is published by the new extension');
is_without_duplicates('two');
is($node->safe_psql('two', "SELECT count(*) FROM integration_sync_map AS m WHERE entity_type = 'application'"), scalar(@{ $db{two}{sim}->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} }),
	'every application is mapped to the one that was there');

# renamed: the list goes by names
my $run = begin_publish($node, 'two');
took(3, 'ALTER DATABASE RENAME is not held up by the worker', sub { $node->safe_psql('postgres', 'ALTER DATABASE two RENAME TO "Zwei, oder ""mehr"""') });
ok(poll_until(sub { log_lines($node, qr/does not serve database "two": it does not exist/) }), 'the old name is said to be nowhere');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'Zwei%' AND backend_type LIKE 'pgsync_itsm%'}), 0, 'the new one is not served');
like($node->safe_psql('Zwei, oder "mehr"', 'SELECT pgsync_itsm.missing_worker()'), qr/'postgres, one, two, three, "Zwei, oder ""mehr"""'/, 'until it is in the list, says the hint');
$node->safe_psql('Zwei, oder "mehr"', $node->safe_psql('Zwei, oder "mehr"', 'SELECT split_part(pgsync_itsm.missing_worker(), \';\', 1)'));
$node->reload;
ok(wait_for_worker($node, 'Zwei, oder "mehr"'), 'named in the list, it is');
is(wait_for_run($node, 'Zwei, oder "mehr"', $run)->{status}, 'done', 'and its publish goes on to the end');

# two names for one, a template, one that nobody may connect to
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(template_too closed), '"CASE"', '"case"';
$node->safe_psql($_, 'CREATE EXTENSION pgsync_itsm') for qw(template_too closed CASE case);
$node->safe_psql('postgres', "ALTER DATABASE template_too IS_TEMPLATE true; ALTER DATABASE closed ALLOW_CONNECTIONS false");
set_databases($node, 'three, three, "three", CASE, template_too, closed, "Zwei, oder ""mehr""", postgres');
ok(wait_for_worker($node, 'CASE'), 'names keep their case');
ok(poll_until(sub { log_lines($node, qr/"template_too": it is a template/) && log_lines($node, qr/"closed": it does not allow connections/) }), 'what cannot be served is told');
is($node->safe_psql('postgres', "SELECT count(*) FROM itsm_stat_worker WHERE database = 'three'"), 1, 'named twice, served once');
is(worker_pid($node, $_), '', "no worker in $_") for qw(case template_too closed);
$node->safe_psql('postgres', 'ALTER DATABASE "CASE" ALLOW_CONNECTIONS false');
ok(poll_until(sub { worker_pid($node, 'CASE') eq '' }, seconds => 10), 'a worker ends when its database is closed');
$node->safe_psql('postgres', 'ALTER DATABASE "CASE" ALLOW_CONNECTIONS true');
ok(poll_until(sub { worker_pid($node, 'CASE') ne '' }, seconds => 10), 'and comes when it is opened');

# DROP DATABASE as such; somebody else is in its way, then nobody
my $session = $node->background_psql('CASE');
$session->query_safe('SELECT 1');
my ($rc, undef, $error) = $node->psql('postgres', 'DROP DATABASE "CASE"');
like($error, qr/There is 1 other session/, 'DROP DATABASE is held up by a session, and by no worker');
ok(wait_for_worker($node, 'CASE'), 'after which the worker is back');
$session->quit;
took(3, 'and not held up when nobody is there but the worker', sub { $node->safe_psql('postgres', 'DROP DATABASE "CASE"') });
took(3, 'a database with a worker can be copied', sub { $node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE "Zwei, oder ""mehr"""') });
ok(wait_for_worker($node, 'Zwei, oder "mehr"'), 'after which it is served again');
is($node->safe_psql('copy', 'SELECT pgsync_itsm.worker_ready()'), 'f', 'and the copy may send nothing');

# somebody whose statement is refused does not end a worker
my $pid = worker_pid($node, 'three');
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
(undef, undef, $error) = $node->psql('postgres', 'DROP DATABASE three', extra_params => [ '-U', 'stranger' ]);
like($error, qr/must be owner of database three/, 'a stranger cannot drop it');
is(worker_pid($node, 'three'), $pid, 'nor end its worker');

# a worker that dies at once, each time
$node->safe_psql('three', q{
	ALTER FUNCTION pgsync_itsm.worker_ready() RENAME TO worker_ready_kept;
	CREATE FUNCTION pgsync_itsm.worker_ready() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of order'; END $$;
	SELECT pgsync_itsm.wake()});
ok(poll_until(sub { state_of($node, 'three') eq 'backing off' }), 'a worker that fails is started after a while');
my $before = restarts($node, 'three');
$begin = time();
poll_until(sub { time() - $begin > 8 });
my $tries = restarts($node, 'three') - $before;
cmp_ok($tries, '<=', 4, 'four times in eight seconds at most');
cmp_ok($tries, '>=', 2, 'but it is tried');
is(state_of($node, 'three', 'last_error'), 'P0001', 'with the code of its error in itsm_stat_worker');
is($node->safe_psql('postgres', "SELECT last_error FROM pgsync_itsm.worker_state() WHERE last_error_code = 'P0001'"), 'out of order', 'whose text superusers see');
is($node->safe_psql('postgres', "BEGIN; GRANT USAGE ON SCHEMA pgsync_itsm TO pg_monitor; SET ROLE pg_monitor; SELECT last_error IS NULL FROM pgsync_itsm.worker_state() WHERE last_error_code = 'P0001'"), 't', 'and nobody else');
$node->safe_psql('three', 'DROP FUNCTION pgsync_itsm.worker_ready(); ALTER FUNCTION pgsync_itsm.worker_ready_kept() RENAME TO worker_ready');
$node->reload;
ok(poll_until(sub { state_of($node, 'three') eq 'idle' }, seconds => 5), 'a reload ends the wait');

# what the views show, and how wide
set_databases($node, 'postgres, three');
$node->safe_psql('three', "UPDATE integration_connections SET sync_schedule = 'on_change'; ALTER SYSTEM SET pgsync_itsm.debounce = '1h'; SELECT pg_reload_conf()");
$node->safe_psql('three', "UPDATE applications SET short_description = 'waits'");
ok(poll_until(sub { state_of($node, 'three', "coalesce(oldest_change::text, '')") =~ /^00:00:0\d$/ }), 'how long a change waits');
my $table = '';
IPC::Run::run([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', 'SELECT * FROM itsm_stat_worker', '-c', 'SELECT * FROM itsm_stat_process' ], '>', \$table);
note($table);
is(scalar(grep { length > 120 } split /\n/, $table), 0, 'no line is wider than 120 characters');
$node->safe_psql('three', "ALTER SYSTEM RESET pgsync_itsm.debounce; SELECT pg_reload_conf()");
ok(poll_until(sub { state_of($node, 'three', "oldest_change IS NULL AND state = 'idle'") eq 't' }), 'and none waits when it is collected')
  or diag(state_of($node, 'three', '*'), $node->safe_psql('three', 'SELECT * FROM integration_queue; SELECT id, status, phase FROM integration_runs ORDER BY 1; SHOW pgsync_itsm.debounce'));
my $activity = sub { $node->safe_psql('postgres', "SELECT application_name || '|' || query FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm $_[0]' AND coalesce(datname, 'three') = 'three'") };
ok(poll_until(sub { $activity->('worker') eq 'pgsync_itsm worker three|pgsync_itsm: waiting for work' }), 'the worker says what it waits for') or diag($activity->('worker'));
is($activity->('launcher'), 'pgsync_itsm launcher|pgsync_itsm: watching its workers', 'the launcher, what it does');

# the standby takes over in the middle of a publish
$node->safe_psql('three', "UPDATE integration_connections SET sync_schedule = 'manual'");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$run = begin_publish($node, 'three');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm%'"), 0, 'nothing runs on the standby');
$node->stop('immediate');
$standby->promote;
ok(wait_for_worker($standby, 'three'), 'promoted, it has a worker');
is(wait_for_run($standby, 'three', $run)->{status}, 'done', 'which brings the publish to its end');
is(arrived('three', "round $round"), 40, 'all of it is there');
is_without_duplicates('three');
$standby->stop('fast');

is_clean($node, 'primary', qr/ERROR:  out of order/, qr/ERROR:  database "CASE" is being accessed by other users/, qr/ERROR:  must be owner of database three/,
	qr/FATAL:  the database system is shutting down/);
is_clean($standby, 'standby', qr/FATAL:  terminating walreceiver process due to administrator command/, qr/FATAL:  could not connect to the primary server/,
	qr/FATAL:  could not receive data from WAL stream/, qr/FATAL:  the database system is (?:starting up|not yet accepting connections)/);

# fifty databases and few processes: databases without the extension need none
$node = new_cluster(name => 'many', databases => 'postgres', conf => "max_worker_processes = 8\n");
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');
$node->safe_psql('postgres', "CREATE DATABASE d$_") for 1 .. 12;
set_databases($node, join ', ', 'postgres', map { "d$_" } 1 .. 49);
ok(poll_query($node, 'postgres', "SELECT count(*) FROM itsm_stat_worker WHERE state = 'no extension'", 12, seconds => 20), 'each of twelve databases is looked at');
is(scalar(log_lines($node, qr/no worker process left/)), 0, 'there are processes for that');
is(scalar(log_lines($node, qr/does not serve database "d\d+": it does not exist/)), 37, 'each of those that are missing is told');
$node->safe_psql("d$_", 'CREATE EXTENSION pgsync_itsm') for 1 .. 12;
ok(poll_query($node, 'postgres', "SELECT count(*) FROM itsm_stat_worker WHERE worker_pid IS NOT NULL", 6, seconds => 20), 'six have a worker');
ok(poll_query($node, 'postgres', "SELECT count(*) FROM itsm_stat_worker WHERE state = 'no worker slot'", 7, seconds => 20), 'seven have none');
ok(poll_until(sub { log_lines($node, qr/no worker process left/) }), 'which is told');
my ($served) = split /\n/, $node->safe_psql('postgres', "SELECT database FROM itsm_stat_worker WHERE worker_pid IS NOT NULL AND database <> 'postgres' LIMIT 1");
$node->safe_psql($served, 'DROP EXTENSION pgsync_itsm');
ok(poll_query($node, 'postgres', "SELECT count(*) FROM itsm_stat_worker WHERE state = 'no worker slot'", 6, seconds => 10), 'a place that is free is taken');
is(scalar(log_lines($node, qr/no worker process left/)), 1, 'said once');
is(scalar(log_lines($node, qr/Raise the parameter "max_worker_processes"/)), 1, 'with the setting to raise');
is_clean($node, 'many');
$node->stop('fast');

done_testing();
