# One worker per database of pgsync_itsm.databases: it comes when the extension does, comes back when it was
# ended, goes when its database leaves the list or the cluster, and is never where it must not be.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# What the launcher says of a database: one column of itsm_stat_worker, '' if there is no row.
sub stat_worker
{
	my ($node, $db, $column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM itsm_stat_worker WHERE database = " . sql_literal($db));
}

sub log_lines
{
	my ($node, $pattern) = @_;
	my @lines = grep { /$pattern/ } split /\n/, slurp_file($node->logfile);
	return scalar @lines;
}

sub set_databases
{
	my ($node, $list) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET pgsync_itsm.databases = '$list'");
	$node->reload;
	return;
}

# Seconds until the sub is true; a large number if it never is.
sub seconds_until
{
	my ($condition, $what) = @_;
	my $begin = time();
	return poll_until($condition, what => $what, seconds => 30) ? time() - $begin : 1e6;
}

my $node = new_cluster(databases => 'postgres,one,two,nowhere,template1');

# what can't be served is said once
ok(poll_until(sub { log_lines($node, qr/does not serve database "nowhere": it does not exist/) }), 'a missing database is told');
ok(log_lines($node, qr/does not serve database "template1": it is a template/), 'a template is told');
$node->reload;
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two three);
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');
ok(wait_for_worker($node, 'postgres'), 'a worker where the extension is');
is(log_lines($node, qr/"nowhere"/), 1, 'a missing database is told once, reload or not');

# CREATE EXTENSION brings the worker
$node->safe_psql('one', 'BEGIN; CREATE EXTENSION pgsync_itsm; ROLLBACK');
is(worker_pid($node, 'one'), '', 'no worker where CREATE EXTENSION was rolled back');
my $fastest = 1e6;
for (1 .. 3)
{
	$node->safe_psql('one', 'DROP EXTENSION IF EXISTS pgsync_itsm');
	my $old = worker_pid($node, 'one');
	$node->safe_psql('one', 'CREATE EXTENSION pgsync_itsm');
	my $took = seconds_until(sub { my $pid = worker_pid($node, 'one'); $pid ne '' && $pid ne $old }, 'a worker in one');
	$fastest = $took if $took < $fastest;
}
cmp_ok($fastest, '<', 1, 'a worker within a second of CREATE EXTENSION');
ok(poll_until(sub { stat_worker($node, 'one', 'state') eq 'idle' }), 'which has nothing to do');
ok(poll_until(sub { stat_worker($node, 'two', 'state') eq 'no extension' }), 'no worker in a database without the extension');
is(worker_pid($node, 'template1'), '', 'no worker in a template');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm launcher' AND datname IS NULL"),
	1, 'the launcher is connected to no database');
is( $node->safe_psql('postgres',
		"SELECT application_name || '|' || state FROM pg_stat_activity WHERE backend_type = 'pgsync_itsm worker' AND datname = 'one'"),
	'pgsync_itsm worker one|idle', 'the worker says what it is');

# DROP EXTENSION and another one
my $first = worker_pid($node, 'one');
$node->safe_psql('one', 'DROP EXTENSION pgsync_itsm');
$node->safe_psql('one', 'CREATE EXTENSION pgsync_itsm');
ok(poll_until(sub { my $pid = worker_pid($node, 'one'); $pid ne '' && $pid ne $first }), 'another extension, another worker');

# a worker that ended comes back
$first = worker_pid($node, 'one');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($first)");
cmp_ok(seconds_until(sub { my $pid = worker_pid($node, 'one'); $pid ne '' && $pid ne $first }, 'another worker in one'), '<', 5,
	'a terminated worker comes back');
cmp_ok($node->safe_psql('postgres', "SELECT restarts FROM itsm_stat_process WHERE database = 'one' AND process = 'worker'"), '>=', 1, 'and is counted');
$first = worker_pid($node, 'one');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($first)");

# the list
set_databases($node, 'postgres, two, three, elsewhere');
ok(poll_until(sub { worker_pid($node, 'one') eq '' && stat_worker($node, 'one', 'state') eq '' }), 'off the list: the worker ends');
is($node->safe_psql('one', "SELECT count(*) FROM itsm_stat_worker WHERE database = 'one'"), 0, 'and leaves no row');
ok(poll_until(sub { stat_worker($node, 'three', 'state') eq 'no extension' }), 'on the list: it is tried');
ok(poll_until(sub { log_lines($node, qr/"elsewhere"/) }), 'another list, another report');
set_databases($node, 'postgres, one, two, three');
ok(wait_for_worker($node, 'one'), 'back on the list: a worker again');

# DROP DATABASE
$node->safe_psql('two', 'CREATE EXTENSION pgsync_itsm');
ok(wait_for_worker($node, 'two'), 'a worker in two');
my $begin = time();
$node->safe_psql('postgres', 'DROP DATABASE two WITH (FORCE)');
cmp_ok(time() - $begin, '<', 2, 'DROP DATABASE WITH (FORCE) is not held up by the worker');
ok(poll_until(sub { stat_worker($node, 'two', 'state') eq '' }), 'and its row goes');
$begin = time();
$node->safe_psql('postgres', 'DROP DATABASE three');
cmp_ok(time() - $begin, '<', 2, 'DROP DATABASE of one without a worker is not held up by those of others');

# the launcher itself
my $worker = worker_pid($node, 'one');
my $launcher = $node->safe_psql('postgres', 'SELECT pgsync_itsm.launcher_pid()');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
ok( poll_until(
		sub {
			my $pid = $node->safe_psql('postgres', 'SELECT pgsync_itsm.launcher_pid()');
			return $pid ne '' && $pid ne $launcher;
		}),
	'a terminated launcher comes back');
is(worker_pid($node, 'one'), $worker, 'and takes over the workers that there are');
is(log_lines($node, qr/PANIC|TRAP|signal 11|signal 6/), 0, 'nothing crashed');
$node->stop('fast');

# no worker process left for all of them
$node = new_cluster(databases => 'postgres,one,two', conf => "max_worker_processes = 3\n");
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');
ok(wait_for_worker($node, 'postgres'), 'a worker in the last free place');
for my $db (qw(one two))
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION pgsync_itsm');
}
ok(poll_until(sub { stat_worker($node, 'one', 'state') eq 'no worker slot' }), 'no place for another one');
ok(poll_until(sub { stat_worker($node, 'two', 'state') eq 'no worker slot' }), 'nor for a third one');
ok(poll_until(sub { log_lines($node, qr/no worker process left/) }), 'which is told when it lasts');
is(log_lines($node, qr/no worker process left/), 1, 'once');
is(log_lines($node, qr/Raise the parameter "max_worker_processes"/), 1, 'with the setting to raise');
$node->stop('fast');

# not preloaded
$node = new_cluster(preload => 0);
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');
is($node->safe_psql('postgres', 'SELECT pgsync_itsm.preloaded()'), 'f', 'without the library preloaded there are no workers');
is($node->safe_psql('postgres', 'SELECT count(*) FROM itsm_stat_worker'), 0, 'nor rows about them');
is($node->safe_psql('postgres', 'SELECT pgsync_itsm.wake()'), '', 'and waking nobody is no error');
$node->stop('fast');

done_testing();
