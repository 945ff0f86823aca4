# Breaks nothing; the platform allows few requests: hourly rules (the hour is a few seconds long where it has to be
# waited for), a ceiling set by hand, a semaphore with one slot.
# Compares: what the platform had to turn away, and the most that it saw in a window, with the rule; what the progress
# view says while a run waits; and the platform with the portfolio, set against set.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PgsyncItsmCompare;
use PgsyncItsmFaults;
use Test::More;

begin_seed();

sub limits { my ($t, %limits) = @_; return $t->{sim}->post('/__sim/limits', \%limits) }

sub rule { return { path_prefix => '/api/now', batch_counts => 'call', @_ } }

# The platform's side of the rule: turned away, and the most in a window.
sub seen
{
	my ($t) = @_;
	my $limits = $t->{sim}->get('/__sim/limits');
	return ($limits->{turned_away}{rate}, $limits->{rules}[0]{most});
}

# Waits until the run waits for a window; the view's row as (waiting, seconds until it goes on).
sub waits
{
	my ($t, $run) = @_;
	my $row = poll_until(
		sub {
			my $now = ask($t, "SELECT s.waiting, extract(epoch FROM p.until - clock_timestamp()) FROM itsm_stat_progress s JOIN integration_runs r ON r.id = s.run_id "
				  . "JOIN pgsync_itsm.connection_pace p USING (connection_id) WHERE s.run_id = $run AND s.until = p.until::time(0)") // '';
			return $now if $now =~ /rate limit/;
			return (ask($t, "SELECT status FROM integration_runs WHERE id = $run") // '') =~ /done|failed/ ? 'ended' : '';
		}, what => 'the run to wait', seconds => 30);
	return split /\|/, $row // '';
}

# 300 applications under a rule of 500 an hour: without one 429, however a batch is counted
for my $counts (qw(call each))
{
	my $t = scenario("500 an hour, a batch counted $counts", applications => 300, services => 6, products => $counts eq 'call' ? 3 : 1);
	limits($t, rules => [ rule(limit => 500, batch_counts => $counts) ]);
	my $run = begin_run($t);
	my $row = wait_for_run($t->{node}, $t->{db}, $run);
	my ($away, $most) = seen($t);
	is($row->{status}, 'done', "$t->{name}: the run ends");
	is(dead_letters($t, $run), '', "$t->{name}: with nothing dead");
	is($away, 0, "$t->{name}: nothing is turned away");
	is($t->{sim}->stats->{by_status}{429} // 0, 0, "$t->{name}: not one 429");
	cmp_ok($most, '>', 0, "$t->{name}: the rule has counted");
	note("$t->{name}: $most counted, " . $t->{sim}->stats->{requests} . ' requests');
	finish($t, $run) if $counts eq 'call';
	end_scenario($t);
}

# 60 an hour, and more to send than that: it waits, says so, and never exceeds it
{
	my $t = scenario('60 an hour', applications => 10, settings => { write_api => 'instance', max_concurrency => 8 });
	limits($t, rules => [ rule(limit => 60, window_seconds => 4) ]);
	my $run = begin_run($t);
	my ($waiting, $until) = waits($t, $run);
	is($waiting, 'rate limit', "$t->{name}: the progress view says what it waits for");
	ok(defined $until && $until > -1 && $until < 6, "$t->{name}: and until when") or diag($until // 'nothing');
	is(ask($t, "SELECT state FROM itsm_stat_connection WHERE connection_id = '$t->{conn}'"), 'limited', "$t->{name}: so does that of connections");
	finish($t, $run);
	my ($away, $most) = seen($t);
	is($away, 0, "$t->{name}: nothing is turned away");
	cmp_ok($most, '<=', 60, "$t->{name}: never more than 60 in a window");
	cmp_ok($t->{sim}->stats->{requests}, '>', 120, "$t->{name}: it took more than two of them");
	end_scenario($t);
}

# the same where the worker is ended in the middle of a window: what it has used of it is not forgotten
{
	my $t = scenario('60 an hour, restarted', applications => 8, settings => { write_api => 'instance', max_concurrency => 8 });
	limits($t, rules => [ rule(limit => 60, window_seconds => 8) ]);
	my $run = begin_run($t);
	my ($waiting) = waits($t, $run);
	is($waiting, 'rate limit', "$t->{name}: it waits");
	my $pid = worker_pid($t->{node}, $t->{db});
	$t->{node}->safe_psql($t->{db}, "SELECT pg_terminate_backend($pid, 5000)");
	ok(poll_until(sub { my $now = worker_pid($t->{node}, $t->{db}); $now ne '' && $now ne $pid }), "$t->{name}: another worker");
	finish($t, $run);
	my ($away, $most) = seen($t);
	is($away, 0, "$t->{name}: nothing is turned away");
	cmp_ok($most, '<=', 60, "$t->{name}: never more than 60 in a window");
	end_scenario($t);
}

# each part of a batch counts
{
	my $t = scenario('40 an hour, a batch counted each', applications => 20);
	limits($t, rules => [ rule(limit => 40, window_seconds => 3, batch_counts => 'each') ]);
	my $run = begin_run($t);
	finish($t, $run);
	my ($away, $most) = seen($t);
	note("$t->{name}: $away turned away");
	cmp_ok($away, '<', 40, "$t->{name}: it paces itself, once it has learned how a batch is counted");
	end_scenario($t);
}

# half of it is left to others
{
	my $t = scenario('60 an hour, half of it ours', applications => 5, settings => { write_api => 'instance', max_concurrency => 8, max_share => 50 });
	limits($t, rules => [ rule(limit => 60, window_seconds => 4) ]);
	my $run = begin_run($t);
	finish($t, $run);
	my ($away, $most) = seen($t);
	is($away, 0, "$t->{name}: nothing is turned away");
	cmp_ok($most, '<=', 30, "$t->{name}: never more than 30 in a window");
	end_scenario($t);
}

# a ceiling set by hand, where the platform announces none
{
	my $t = scenario('40 an hour by hand', applications => 5, settings => { write_api => 'instance', requests_per_hour => 40 });
	my $run = begin_run($t);
	my ($waiting, $until) = waits($t, $run);
	is($waiting, 'rate limit', "$t->{name}: it waits");
	ok(defined $until && $until > 1800 && $until <= 3700, "$t->{name}: until the hour is over") or diag($until // 'nothing');
	cmp_ok($t->{sim}->stats->{requests}, '<=', 40, "$t->{name}: after 40 requests at most");
	cmp_ok($t->{sim}->stats->{requests}, '>=', 30, "$t->{name}: and not long before");
	my $seen = $t->{sim}->stats->{requests};
	$t->{node}->safe_psql($t->{db}, "SELECT itsm_set('$t->{conn}', 'requests_per_hour', NULL)");
	ok(poll_until(sub { $t->{sim}->stats->{requests} > $seen }, seconds => 5), "$t->{name}: taken back, it goes on at once");
	finish($t, $run);
	end_scenario($t);
}

# one slot there and no queue: 429 without headers
{
	my $t = scenario('one slot', applications => 10, settings => { write_api => 'instance', max_concurrency => 8 },
		simulator => [ '--switch', 'latency_ms=20' ]);
	limits($t, semaphore => { slots => 1, queue => 0 });
	my $run = begin_run($t);
	my @slots;
	poll_until(
		sub {
			my $now = ask($t, "SELECT slots FROM itsm_stat_connection WHERE connection_id = '$t->{conn}' AND sent > 0") // '';
			push @slots, $now if $now ne '';
			return (ask($t, "SELECT status FROM integration_runs WHERE id = $run") // '') =~ /done|failed/;
		});
	finish($t, $run);
	my $stats = $t->{sim}->stats;
	note("$t->{name}: $stats->{turned_away}{semaphore} of $stats->{requests} turned away, at most $stats->{max_in_flight} in flight");
	cmp_ok($stats->{turned_away}{semaphore}, '>', 0, "$t->{name}: some were turned away");
	# with one in flight none is, a second one is tried now and then
	cmp_ok($stats->{turned_away}{semaphore}, '<', $stats->{requests} * 0.4, "$t->{name}: and fewer are in flight from then on");
	my $sum = 0;
	$sum += $_ for @slots;
	cmp_ok($sum, '<', 3 * @slots, "$t->{name}: the connection has fewer slots") or diag("@slots");
	end_scenario($t);
}

done_testing();
