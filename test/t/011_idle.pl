# An idle worker costs nothing: no query, no processor time; it is woken by a commit, not by a rollback, and a
# slow poll finds what woke nobody.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_cluster(databases => 'app', slow_poll => 30, conf => "autovacuum = off\n");
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION pgsync_itsm');
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');

# All of these look from another database, so that looking does not count.
sub last_cycle
{
	return $node->safe_psql('postgres', "SELECT last_cycle FROM itsm_stat_worker WHERE database = 'app' AND state = 'idle'");
}

sub transactions
{
	return $node->safe_psql('postgres',
		"SELECT xact_commit + xact_rollback || '/' || tup_returned || '/' || tup_fetched FROM pg_stat_database WHERE datname = 'app'");
}

sub activity
{
	return $node->safe_psql('postgres', "SELECT pid || '/' || query_start || '/' || state_change || '/' || state FROM pg_stat_activity "
		  . "WHERE backend_type = 'pgsync_itsm worker' AND datname = 'app'");
}

# Processor time of a process in ticks, as the kernel counts it.
sub ticks
{
	my ($pid) = @_;
	my @field = split ' ', (slurp_file("/proc/$pid/stat") =~ s/^.*\)//sr);
	return $field[11] + $field[12];
}

ok(wait_for_worker($node, 'app'), 'a worker');
ok(poll_until(sub { last_cycle() ne '' }), 'that has nothing to do');

# Begin right after a turn, so that the slow poll does not fall into the ten seconds; counters of sessions
# that have ended arrive a little later.
my $before = last_cycle();
$node->safe_psql('app', 'SELECT pgsync_itsm.wake()');
ok(poll_until(sub { my $now = last_cycle(); $now ne '' && $now ne $before }), 'woken at commit');
my $count = '';
poll_until(sub { my $last = $count; usleep(1_000_000); $count = transactions(); return $last eq $count });
my $activity = activity();
my $cycle    = last_cycle();
my $ticks    = ticks(worker_pid($node, 'app'));
my $begin    = time();
usleep(100_000) while time() - $begin < 10;
is(transactions(), $count, 'no transaction in ten idle seconds, no row read');
is(activity(), $activity, 'no query begun');
is(last_cycle(), $cycle, 'no turn');
cmp_ok(ticks(worker_pid($node, 'app')) - $ticks, '<=', 2, 'hardly any processor time');

# what wakes it and what does not
$node->safe_psql('app', 'BEGIN; SELECT pgsync_itsm.wake(); ROLLBACK');
$node->safe_psql('app', 'BEGIN; SAVEPOINT s; SELECT 1; ROLLBACK TO s; COMMIT');
usleep(1_000_000);
is(last_cycle(), $cycle, 'a rolled-back transaction wakes nobody');
$begin = time();
$node->safe_psql('app', 'SELECT pgsync_itsm.wake()');
ok(poll_until(sub { my $now = last_cycle(); $now ne '' && $now ne $cycle }), 'a committed one does');
cmp_ok(time() - $begin, '<', 2, 'at once');

# a cancel request has nothing to cancel
my $pid = worker_pid($node, 'app');
$cycle = last_cycle();
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$node->safe_psql('app', 'SELECT pgsync_itsm.wake()');
ok(poll_until(sub { my $now = last_cycle(); $now ne '' && $now ne $cycle }), 'works on after a cancel request');
is(worker_pid($node, 'app'), $pid, 'in the same process');

# the slow poll
$node->safe_psql('postgres', "ALTER SYSTEM SET pgsync_itsm.slow_poll = '1s'");
$node->reload;
usleep(500_000);
$cycle = last_cycle();
ok(poll_until(sub { my $now = last_cycle(); $now ne '' && $now ne $cycle }, seconds => 10), 'looks by itself every slow_poll');

$begin = time();
$node->stop('fast');
cmp_ok(time() - $begin, '<', 3, 'stop -m fast is not held up');

done_testing();
