# PgsyncItsmSoak.pm: a portfolio that is worked on while its platform fails now and then.
#
# soak(seconds => n, write_api => 'ire') changes the portfolio at random, under sync_schedule = on_change, while a few
# percent of all calls fail in one way or another; then the faults end, and when all is quiet both sides have to be
# equal without anybody having called anything.  Its worker's memory may not grow.

package PgsyncItsmSoak;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use Time::HiRes qw(time usleep);
use PostgreSQL::Test::Utils;
use PgsyncItsm;
use PgsyncItsmCompare;
use PgsyncItsmFaults;

our @EXPORT = qw(soak);

# Each a statement for a random record; "!" stands for a text that is new each time.
my @changes = (
	"UPDATE applications SET short_description = 'Changed !' WHERE id = (APP)",
	"UPDATE applications SET short_description = 'Changed together !' WHERE id IN (SELECT id FROM applications ORDER BY random() LIMIT 15)",
	"UPDATE applications SET operational_status = (ARRAY['operational', 'pipeline'])[1 + (random() * 10)::int % 2] WHERE id = (APP)",
	"UPDATE applications SET name = 'Renamed !' WHERE id = (APP)",
	"UPDATE deployment_profiles SET version = left('!', 10) WHERE id = (PROFILE)",
	"UPDATE deployment_profiles SET operational_status = (ARRAY['operational', 'non-operational'])[1 + (random() * 10)::int % 2] WHERE id = (PROFILE)",
	"UPDATE it_services SET description = 'Service !' WHERE id = (SERVICE)",
	"DELETE FROM deployment_profile_it_services WHERE id = (SELECT id FROM deployment_profile_it_services ORDER BY random() LIMIT 1)",
	"DELETE FROM deployment_profile_software_products WHERE id = (SELECT l.id FROM deployment_profile_software_products l WHERE
	   (SELECT count(*) FROM deployment_profile_software_products o WHERE o.software_product_id = l.software_product_id) > 5 ORDER BY random() LIMIT 1)",
	"INSERT INTO deployment_profile_it_services (deployment_profile_id, it_service_id, relationship_type)
	   SELECT p, s, 'depends_on' FROM (SELECT (PROFILE) AS p, (SERVICE) AS s) AS x
	    WHERE NOT EXISTS (SELECT FROM deployment_profile_it_services l WHERE l.deployment_profile_id = x.p AND l.it_service_id = x.s)",
	"INSERT INTO deployment_profile_software_products (deployment_profile_id, software_product_id)
	   SELECT p, s FROM (SELECT (PROFILE) AS p, (PRODUCT) AS s) AS x
	    WHERE NOT EXISTS (SELECT FROM deployment_profile_software_products l WHERE l.deployment_profile_id = x.p AND l.software_product_id = x.s)",
	"WITH a AS (INSERT INTO applications (workspace_id, owner_workspace_id, name, short_description, operational_status, lifecycle_stage_status, management_classification)
	     SELECT w.id, w.id, 'New !', 'Made !', 'operational', 'active', 'apm' FROM workspaces w LIMIT 1 RETURNING id)
	   INSERT INTO application_contacts (application_id, contact_id, role_type, is_primary)
	   SELECT a.id, c.id, r, true FROM a, (SELECT id FROM contacts ORDER BY random() LIMIT 1) AS c, unnest(ARRAY['business_owner', 'technical_owner']) AS r",
	"UPDATE deployment_profiles AS p SET sn_sync_scope = 'application_service', name = 'Service of ' || a.name FROM applications a
	  WHERE a.id = p.application_id AND p.sn_sync_scope = 'none' AND p.dp_type = 'application'",
	"BEGIN; UPDATE applications SET short_description = 'never !'; ROLLBACK");

my %pick = (
	APP     => 'SELECT id FROM applications ORDER BY random() LIMIT 1',
	PROFILE => "SELECT id FROM deployment_profiles WHERE sn_sync_scope = 'application_service' ORDER BY random() LIMIT 1",
	SERVICE => 'SELECT id FROM it_services ORDER BY random() LIMIT 1',
	PRODUCT => 'SELECT id FROM software_products ORDER BY random() LIMIT 1');

my @faults = (
	{ fault => 'status', status => 500 }, { fault => 'status', status => 502 }, { fault => 'status', status => 503 },
	{ fault => 'close_after_commit' }, { fault => 'close_before_reply' }, { fault => 'truncated_body' }, { fault => 'garbage_body' },
	{ fault => '202' }, { fault => 'semaphore' }, { fault => 'html' }, { fault => 'token_expiry' }, { fault => 'nul' },
	{ fault => 'bad_utf8' }, { fault => 'quota_cut', endpoint => '/api/' }, { fault => 'retry_after', seconds => 1 },
	{ fault => 'lock_timeout', endpoint => 'identifyreconcile' }, { fault => 'delay', seconds => 0.2 },
	{ fault => 'business_rule_abort', endpoint => 'identifyreconcile', name => 'Guard' });

# Kilobytes of the worker's own memory (shared buffers are not); undef when there is none.
sub worker_memory
{
	my ($pid) = @_;
	open(my $in, '<', "/proc/$pid/smaps_rollup") or return undef;
	my $sum = 0;
	while (<$in>)
	{
		$sum += $1 if /^Pss_Anon:\s+(\d+) kB/;
	}
	return $sum;
}

sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[ @sorted / 2 ] }

sub quiet
{
	my ($t) = @_;
	return poll_query($t->{node}, $t->{db},
		"SELECT NOT EXISTS (SELECT FROM integration_queue)
		    AND NOT EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running'))
		    AND (SELECT full_plan_after IS NULL FROM integration_connections WHERE id = '$t->{conn}')", 't', seconds => 240);
}

# Changes at random for so long; the worker's memory, second by second.
sub change_at_random
{
	my ($t, $seconds) = @_;
	my ($made, $end, $next, @memory, %pids) = (0, time() + $seconds, 0);
	while (time() < $end)
	{
		my $text = $made . '-' . int rand 1_000_000;
		my $sql  = $changes[ rand @changes ];
		$sql =~ s/\((APP|PROFILE|SERVICE|PRODUCT)\)/($pick{$1})/g;
		$sql =~ s/!/$text/g;
		$t->{node}->safe_psql($t->{db}, $sql);
		$made++;
		if (time() > $next)
		{
			my $pid = worker_pid($t->{node}, $t->{db});
			$pids{$pid}++;
			push @memory, worker_memory($pid) // () if $pid ne '';
			$next = time() + 1;
		}
		# people are not that fast
		usleep(int rand 200_000);
	}
	return ($made, \@memory, \%pids);
}

sub soak
{
	my (%opt) = @_;
	my $t = scenario("soak ($opt{write_api})", applications => $opt{applications} // 40, services => 4, products => 3,
		conf => "pgsync_itsm.debounce = '100ms'\n",
		settings => { write_api => $opt{write_api}, shrink_percent => 100 });
	$t->{node}->safe_psql($t->{db}, "UPDATE integration_connections SET sync_schedule = 'on_change'");
	wait_for_run($t->{node}, $t->{db}, begin_run($t));
	fault($t, probability => ($opt{percent} // 0.3) / 100, %$_) for @faults;
	my ($made, $memory, $pids) = change_at_random($t, $opt{seconds});
	my $stats = $t->{sim}->stats;
	diag("$made changes, $stats->{requests} requests, " . join ', ', map { "$_ $stats->{faults_fired}{$_}" } sort keys %{ $stats->{faults_fired} });
	calm($t);
	ok(quiet($t), "$t->{name}: all is quiet in the end");
	unexplained($t);
	is(scalar keys %$pids, 1, "$t->{name}: one worker all the time") or diag(join ' ', %$pids);
	no_growth($t, $memory) if $opt{memory} // 1;
	is($t->{node}->safe_psql($t->{db}, "SELECT count(*) FROM integration_runs WHERE status NOT IN ('done')"), '0', "$t->{name}: every run ended well")
	  or diag($t->{node}->safe_psql($t->{db}, "SELECT id, status, error_message, approval_reason FROM integration_runs WHERE status <> 'done' LIMIT 5"));
	both_sides_equal($t->{node}, $t->{db}, $t->{ns}, $t->{sim}, $t->{before}, conn => $t->{conn}, name => "$t->{name}: both sides are equal");
	end_scenario($t);
	return;
}

# What a business rule there refused is dead, says so and goes when it is queued again; nothing else is dead.
sub unexplained
{
	my ($t) = @_;
	my $dead = "FROM integration_run_items WHERE state = 'dead'";
	is($t->{node}->safe_psql($t->{db}, "SELECT string_agg(DISTINCT format('%s %s: %s', entity_type, error_class, reason), E'\\n') $dead AND coalesce(reason, '') !~ 'Guard|abort'"),
		'', "$t->{name}: no dead letter that no fault explains");
	my $count = $t->{node}->safe_psql($t->{db}, "SELECT count(*) $dead");
	note("$t->{name}: $count dead letters");
	return if $count == 0;
	# one run of a connection at a time, so that several take several rounds
	for my $round (1 .. 10)
	{
		last if $t->{node}->safe_psql($t->{db}, "SELECT count(*) $dead") eq '0';
		$t->{node}->safe_psql($t->{db}, "SELECT itsm_requeue(entity_type => t.entity_type) FROM (SELECT DISTINCT entity_type $dead) AS t");
		ok(quiet($t), "$t->{name}: dead letters are queued again, and all is quiet");
	}
	return;
}

# What the worker holds, in the server's own words.
sub contexts
{
	my ($t) = @_;
	my $pid = worker_pid($t->{node}, $t->{db});
	$t->{node}->safe_psql($t->{db}, "SELECT pg_log_backend_memory_contexts($pid); SELECT pgsync_itsm.wake()");
	my $log;
	poll_until(sub { $log = slurp_file($t->{node}->logfile); $log =~ /\[$pid\].*Grand total/ }, seconds => 10);
	my @found = sort { $b->[0] <=> $a->[0] } map { [ /: (\d+) total/, s/^.*level: //r ] } grep { /\[$pid\].*level: \d+; .*: \d+ total/ } split /\n/, $log // '';
	my (%sum, %count);
	for (@found)
	{
		my ($name) = $_->[1] =~ /^\d+; ([^:]+):/ or next;
		$sum{$name} += $_->[0];
		$count{$name}++;
	}
	diag(sprintf '%9d bytes in %5d contexts: %s', $sum{$_}, $count{$_}, $_) for (sort { $sum{$b} <=> $sum{$a} } keys %sum)[ 0 .. 9 ];
	return;
}

sub no_growth
{
	my ($t, $memory) = @_;
	my $n = @$memory;
	ok($n >= 8, "$t->{name}: the worker's memory was seen") or return;
	my $half = median(@{$memory}[ int($n * 0.4) .. int($n * 0.6) ]);
	my $last = median(@{$memory}[ int($n * 0.8) .. $n - 1 ]);
	diag("memory of the worker: $memory->[0] kB at first, $half kB half-way, $last kB in the end");
	cmp_ok($last, '<', $half + 1024, "$t->{name}: the worker's memory does not grow") or contexts($t);
	return;
}

1;
