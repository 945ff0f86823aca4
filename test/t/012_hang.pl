# A platform that never answers holds up nothing here: no DROP EXTENSION, no DROP DATABASE, no stop, no worker
# that is told to end.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my @databases = qw(extension forced stopped);
my $node = new_cluster(databases => \@databases);
my $sim  = start_simulator();
load_platform($sim);
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');

# Everything but the token hangs from here on.
my %namespace;
for my $db (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	load_getinsync($node, $db);
	$namespace{$db} = namespace_of($node, $db);
	connect_and_activate($node, $db, $sim, namespace => $namespace{$db});
}
$sim->post('/__sim/faults', { endpoint => '/api/', fault => 'hang', count => -1 });

# A run of this database that waits for the platform.
sub begin_hanging_run
{
	my ($db) = @_;
	my @runs = publish_runs($node, $db, $namespace{$db});
	ok( poll_until(
			sub {
				my $flying = $node->safe_psql('postgres', "SELECT in_flight FROM itsm_stat_worker WHERE database = '$db'");
				return $flying ne '' && $flying > 0 && hanging();
			}),
		"$db: a request hangs");
	return $runs[-1];
}

# The simulator has an API call that it does not answer.
sub hanging
{
	my $fired = $sim->stats->{faults_fired};
	return ref $fired eq 'HASH' ? scalar(grep { $_ } values %$fired) : $fired;
}

sub took
{
	my ($begin, $what) = @_;
	my $seconds = time() - $begin;
	cmp_ok($seconds, '<', 2, "$what takes less than two seconds");
	note(sprintf('%.2f s', $seconds));
	return;
}

my $run = begin_hanging_run('stopped');
is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'stopped' AND backend_type LIKE 'pgsync%' "
		  . "AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR xact_start IS NOT NULL)"),
	0, 'no transaction and no snapshot while it hangs');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type LIKE 'pgsync%'"),
	0, 'no lock');

my $pid   = worker_pid($node, 'stopped');
my $begin = time();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
took($begin, 'ending a worker');
ok(poll_until(sub { my $now = worker_pid($node, 'stopped'); $now ne '' && $now ne $pid }), 'another one goes on');

begin_hanging_run('extension');
$begin = time();
$node->safe_psql('extension', 'DROP EXTENSION pgsync_itsm CASCADE');
took($begin, 'DROP EXTENSION');

begin_hanging_run('forced');
$begin = time();
$node->safe_psql('postgres', 'DROP DATABASE forced WITH (FORCE)');
took($begin, 'DROP DATABASE WITH (FORCE)');

$begin = time();
$node->safe_psql('postgres', 'DROP DATABASE extension WITH (FORCE)');
took($begin, 'DROP DATABASE of one whose extension is gone');

ok(poll_until(sub { $node->safe_psql('postgres', "SELECT in_flight > 0 FROM itsm_stat_worker WHERE database = 'stopped'") eq 't' }),
	'the run hangs again');
$begin = time();
$node->stop('fast');
took($begin, 'stop -m fast');

# the run goes on where it was, once the platform answers
$sim->{http}->delete($sim->url . '/__sim/faults');
$node->start;
is(wait_for_run($node, 'stopped', $run)->{status}, 'done', 'and the run ends well when the platform answers again');
$node->stop('fast');

done_testing();
