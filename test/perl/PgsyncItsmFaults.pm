# PgsyncItsmFaults.pm: what can go wrong in a run, and whether the platform has everything once in spite of it.
#
# Every test of the fault matrix is a function here, so that `make check` has it with small numbers (test/t/04*.pl)
# and `make check-long` the same with large ones (test/long/).  Each one
#
#   * publishes a generated portfolio with everything that travels, contracts, data flows and new companies included,
#     to a simulator of its own that loses answers after the deed, delays and fails at the same time;
#   * breaks one thing in mid-run;
#   * waits for the run to end, and compares, set against set, what the platform holds with the portfolio.
#
# Whatever is random comes from one seed, which is printed; FAULT_SEED=n gives the same again.

package PgsyncItsmFaults;

use strict;
use warnings;
use Carp qw(croak);
use Exporter 'import';
use File::Copy ();
use IO::Socket::INET;
use IPC::Run ();
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(usleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use PgsyncItsm;
use PgsyncItsmCompare;

our @EXPORT = qw(begin_seed scenario begin_run at_it storm calm fault progress finish end_scenario enrich dead_letters
  alive ask start_relay hold_gate
  workers_killed stopped_immediately workers_terminated network_cut platform_away token_revoked fault_kind unheard_link
  standby_promoted restored_elsewhere cancelled_run needs_approval FAULT_KINDS);

my $scenarios = 0;
my $seed;

sub begin_seed
{
	$seed = $ENV{FAULT_SEED} // (time() * 1000) % 1_000_000;
	srand($seed);
	diag("FAULT_SEED=$seed");
	return $seed;
}

# ---- a scenario ---------------------------------------------------------------------------------

# What the generator leaves out: contracts in three shapes, data flows, vendors that the platform does not know,
# private services, technical profiles.
sub enrich
{
	my ($node, $db, $ns) = @_;
	$node->safe_psql($db, qq{
		INSERT INTO organizations (id, namespace_id, name, is_vendor, is_manufacturer, is_internal)
		SELECT md5('$ns/new/' || n)::uuid, '$ns', 'New Vendor ' || n, true, true, false FROM generate_series(1, 3) AS n;
		UPDATE it_services SET vendor_org_id = md5('$ns/new/1')::uuid, contract_reference = 'SRV-' || right(name, 2),
		       contract_start_date = '2026-01-01', contract_end_date = '2026-12-31' WHERE namespace_id = '$ns';
		UPDATE software_products SET manufacturer_org_id = md5('$ns/new/2')::uuid
		 WHERE id = (SELECT min(id::text)::uuid FROM software_products WHERE namespace_id = '$ns');
		INSERT INTO product_contracts (namespace_id, software_product_id, name, vendor_org_id, contract_reference, start_date, end_date)
		SELECT '$ns', id, 'Maintenance of ' || name, md5('$ns/new/2')::uuid, 'PRD-' || right(name, 2), '2026-04-01', '2027-03-31'
		  FROM software_products WHERE namespace_id = '$ns';
		WITH p AS (SELECT p.id, row_number() OVER (ORDER BY p.id) AS n FROM deployment_profiles p
		             JOIN workspaces w ON w.id = p.workspace_id WHERE w.namespace_id = '$ns')
		UPDATE deployment_profiles AS t SET contract_reference = 'DP-' || p.n / 20, vendor_org_id = md5('$ns/new/3')::uuid,
		       contract_start_date = '2026-02-01', contract_end_date = '2027-01-31'
		  FROM p WHERE p.id = t.id AND p.n % 5 = 0;
		WITH p AS (SELECT p.id FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id
		            WHERE w.namespace_id = '$ns' ORDER BY p.id DESC LIMIT 2)
		UPDATE deployment_profiles AS t SET sn_sync_scope = 'technical_service' FROM p WHERE p.id = t.id;
		WITH a AS (SELECT a.id, row_number() OVER (ORDER BY a.id) AS n FROM applications a
		             JOIN workspaces w ON w.id = a.workspace_id WHERE w.namespace_id = '$ns')
		INSERT INTO application_integrations (source_application_id, target_application_id, name, direction)
		SELECT s.id, t.id, 'Flow ' || s.n, (ARRAY['upstream', 'downstream', 'bidirectional'])[s.n % 3 + 1]
		  FROM a AS s JOIN a AS t ON t.n = s.n + 1 WHERE s.n % 2 = 0;
	});
	return;
}

# scenario($name, %opt): a cluster, a portfolio, a simulator and an active connection.
#   applications, profiles, services, products   of the portfolio
#   settings    of the connection: { name => value }
#   conf        lines of postgresql.conf
#   cluster     { further options of new_cluster }
#   relay       1: a relay lies between the two
#   simulator   [ further options of the simulator ]
sub scenario
{
	my ($name, %opt) = @_;
	my $t = { name => $name };
	# backoff is scaled: what takes seconds in production takes hundredths here
	my $conf = "pgsync_itsm.retry_delay = '50ms'\npgsync_itsm.retry_delay_max = '1s'\n" . ($opt{conf} // '');
	# under valgrind the server is slow: what is to be looked at comes after all is set up
	local $ENV{PGSYNC_ITSM_PLAIN} = 1;
	$t->{node} = new_cluster(name => 's' . ++$scenarios, conf => $conf, %{ $opt{cluster} // {} });
	$t->{db}   = 'postgres';
	# registering the data source is another test's matter: nobody has to wait for it here
	$t->{sim}  = start_simulator(options => [ '--seed', int(rand(1_000_000)), '--switch', 'choice_cache_seconds=0', @{ $opt{simulator} // [] } ]);
	my %size = map { $_ => $opt{$_} // { applications => 20, profiles => 2, services => 3, products => 2 }->{$_} }
	  qw(applications profiles services products);
	load_getinsync($t->{node}, $t->{db}, generate => \%size);
	load_platform($t->{sim}, $t->{node}, $t->{db});
	$t->{ns} = namespace_of($t->{node}, $t->{db});
	enrich($t->{node}, $t->{db}, $t->{ns});
	$t->{before} = remember($t->{sim});
	my %args;
	if ($opt{relay})
	{
		$t->{relay} = start_relay($t->{sim}->port);
		$args{instance_url} = sql_literal('http://127.0.0.1:' . $t->{relay}{port});
	}
	# a record that is in flight when its worker is killed has used up one of its attempts: there are many here
	$t->{conn} = connect_and_activate($t->{node}, $t->{db}, $t->{sim}, namespace => $t->{ns}, args => \%args,
		settings => { max_attempts => 50, %{ $opt{settings} // {} } });
	$t->{sim}->reset_counters;
	delete $ENV{PGSYNC_ITSM_PLAIN};
	if ($ENV{PGSYNC_ITSM_SANITIZER})
	{
		# pg_ctl restart would take the program itself, which is not what starts it here
		$t->{node}->stop;
		$t->{node}->start;
		my ($postmaster) = split /\n/, slurp_file($t->{node}->data_dir . '/postmaster.pid');
		croak 'not under valgrind' unless slurp_file("/proc/$postmaster/maps") =~ /memcheck/;
	}
	return $t;
}

sub end_scenario
{
	my ($t) = @_;
	$t->{relay}->stop if $t->{relay};
	$t->{sim}->stop;
	$t->{node}->stop('immediate');
	return;
}

sub begin_run
{
	my ($t) = @_;
	my ($run) = publish_runs($t->{node}, $t->{db}, $t->{ns});
	return $t->{run} = $run;
}

# A query that may meet a server that just comes up: undef until it answers.
sub ask
{
	my ($t, $sql) = @_;
	my ($out, $err) = ('', '');
	my $rc = $t->{node}->psql($t->{db}, $sql, stdout => \$out, stderr => \$err);
	return defined $rc && $rc == 0 ? $out : undef;
}

# Waits until the server answers again.
sub alive
{
	my ($t) = @_;
	return poll_until(sub { defined ask($t, 'SELECT 1') }, what => 'the server to come back') || croak 'no server';
}

sub fault { my ($t, %spec) = @_; $t->{sim}->post('/__sim/faults', { endpoint => '*', count => -1, %spec }); return }

# Lost answers, delays and errors on everything, a few percent of each.
sub storm
{
	my ($t, $percent) = @_;
	my $p = ($percent // 4) / 100;
	fault($t, fault => 'close_after_commit', probability => $p);
	fault($t, fault => 'status', status => $_, probability => $p / 2) for 500, 503;
	fault($t, fault => 'truncated_body', probability => $p / 2);
	fault($t, fault => 'delay', seconds => 0.05, probability => 5 * $p);
	fault($t, endpoint => '/api/now/table/', sub => JSON::PP::true, fault => 'status', status => 500, probability => $p / 4);
	return;
}

sub calm
{
	my ($t) = @_;
	my $response = $t->{sim}{http}->delete($t->{sim}->url . '/__sim/faults');
	croak "faults stay: $response->{status}" unless $response->{success};
	return;
}

# How far a run is: items that are through; undef while the server is away.
sub progress
{
	my ($t, $run) = @_;
	return ask($t, "SELECT count(*) FROM integration_run_items WHERE run_id = $run AND state IN ('done', 'unchanged')");
}

sub ended
{
	my ($t, $run) = @_;
	return (ask($t, "SELECT status IN ('done', 'failed', 'cancelled') FROM integration_runs WHERE id = $run") // '') eq 't';
}

# Waits until another worker than $old is at it: it has talked to the platform since the counter was at $seen.
# Its process id; 0 when the run has ended before.
sub at_it
{
	my ($t, $run, $old, $seen) = @_;
	my $pid = poll_until(
		sub {
			my $now = ask($t, "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm worker%' AND datname = '$t->{db}'") // '';
			return $now if $now ne '' && $now ne ($old // '') && $t->{sim}->stats->{requests} > $seen;
			return ended($t, $run) ? -1 : 0;
		}, what => 'a worker at its work');
	return ($pid // -1) == -1 ? 0 : $pid;
}

sub dead_letters
{
	my ($t, $run) = @_;
	return $t->{node}->safe_psql($t->{db},
		"SELECT string_agg(DISTINCT format('%s %s %s: %s', entity_type, action, coalesce(error_class, ''), left(reason, 100)), E'\\n')
		   FROM integration_run_items WHERE run_id = $run AND state IN ('dead', 'skipped', 'held', 'refused')");
}

# The end of every test: faults off, the run ends well, nothing is dead, both sides are equal.
sub finish
{
	my ($t, $run, %opt) = @_;
	calm($t);
	my $name = "$t->{name}: ";
	my $row  = eval { wait_for_run($t->{node}, $t->{db}, $run, seconds => $opt{seconds} // 120) };
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if (!ok($row && $row->{status} eq 'done', $name . 'the run ends well'))
	{
		diag($@) if $@;
		diag("status $row->{status}: " . ($row->{error_message} // '')) if $row;
		diag(ask($t, "SELECT format('%s %s', paused_at, pause_reason) FROM integration_connections WHERE id = '$t->{conn}'") // '');
	}
	is(dead_letters($t, $run), '', $name . 'nothing is dead, held or skipped');
	return both_sides_equal($t->{node}, $t->{db}, $t->{ns}, $t->{sim}, $t->{before}, conn => $t->{conn},
		name => $name . 'nothing lost, nothing twice');
}

# ---- tools --------------------------------------------------------------------------------------

# A relay to a port; methods tell(command), stop; member port.
sub start_relay
{
	my ($target) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir('relay');
	my $in = '';
	my $harness = IPC::Run::start([ top_dir() . '/test/lib/tcp-relay', $target, "$dir/port" ], '<pipe', \*RELAY_IN,
		'>', "$dir/log", '2>&1');
	my $handle = *RELAY_IN{IO};
	poll_until(sub { -s "$dir/port" }, what => 'the relay', seconds => 20) or croak 'no relay: ' . slurp_file("$dir/log");
	my ($port, $control) = split /\n/, slurp_file("$dir/port");
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$control", Timeout => 10) or croak "relay: $!";
	return bless { harness => $harness, in => $handle, port => $port, socket => $socket }, 'PgsyncItsm::Relay';
}

sub PgsyncItsm::Relay::tell
{
	my ($self, $command) = @_;
	my $socket = $self->{socket};
	print $socket "$command\n";
	$socket->flush;
	my $answer = <$socket>;
	croak "relay $command: " . ($answer // 'gone') unless ($answer // '') =~ /^ok (\d+)/;
	return $1;
}

sub PgsyncItsm::Relay::stop
{
	my ($self) = @_;
	close $self->{socket};
	close $self->{in};
	$self->{harness}->finish;
	return;
}

# A gate in the transactions of the worker: hold_gate($t, $where, $type) makes the next one that claims (settles,
# maps) an item of that type wait, within its transaction, until the server stops or the gate is let go.
my %gate = (
	claim  => [ 'pgsync_itsm.claims',    'INSERT', 'true', "EXISTS (SELECT FROM public.integration_run_items WHERE id = ANY (NEW.item_ids) AND entity_type = '%s')" ],
	settle => [ 'integration_run_items', 'UPDATE', "OLD.state = 'pending' AND NEW.state = 'done' AND NEW.entity_type = '%s'", 'true' ],
	map    => [ 'integration_sync_map',  'INSERT', "NEW.entity_type = '%s'", 'true' ]);

sub hold_gate
{
	my ($t, $where, $type) = @_;
	my ($table, $event, $when, $if) = map { sprintf $_, $type } @{ $gate{$where} };
	$t->{node}->safe_psql($t->{db}, qq{
		CREATE OR REPLACE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS \$\$
		BEGIN IF $if THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared(4711); END IF; RETURN NEW; END \$\$;
		DROP TRIGGER IF EXISTS gate ON pgsync_itsm.claims;
		DROP TRIGGER IF EXISTS gate ON integration_run_items;
		DROP TRIGGER IF EXISTS gate ON integration_sync_map;
		CREATE TRIGGER gate BEFORE $event ON $table FOR EACH ROW WHEN ($when) EXECUTE FUNCTION public.gate();});
	my $gate = { in => "SELECT pg_advisory_lock(4711);\n" };
	$gate->{harness} = IPC::Run::start([ 'psql', '-XAtq', '-d', $t->{node}->connstr($t->{db}) ], '<', \$gate->{in}, '>', \my $out, '2>', \my $err);
	$gate->{harness}->pump_nb;
	poll_until(sub { $gate->{harness}->pump_nb; (ask($t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 4711") // 0) > 0 })
	  or croak 'no gate';
	return $gate;
}

sub at_gate
{
	my ($t) = @_;
	return poll_until(
		sub {
			(ask($t, "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			           WHERE l.locktype = 'advisory' AND l.objid = 4711 AND NOT l.granted AND a.backend_type LIKE 'pgsync_itsm%'") // 0) > 0;
		}, what => 'a worker at the gate');
}

# ---- the matrix ---------------------------------------------------------------------------------

# a. Breaks: the worker is killed with SIGKILL at random moments, and with it every process of the server.
# Compares: the platform with the portfolio.
sub workers_killed
{
	my (%opt) = @_;
	my $kills = $opt{kills} // 20;
	my $t = scenario("killed ($opt{write_api})", applications => $opt{applications} // 60,
		settings => { write_api => $opt{write_api}, batch_items => 5, max_concurrency => $opt{write_api} eq 'ire' ? 2 : 8 },
		simulator => [ '--switch', 'latency_ms=' . ($opt{latency} // 100) ]);
	storm($t);
	my $run = begin_run($t);
	my ($done, $pid, $seen, %at) = (0, '', 0);
	while ($done < $kills)
	{
		# a few while it plans, the others while it writes
		poll_until(sub { (progress($t, $run) // 0) > 0 || ended($t, $run) }, what => 'the run to write') if $done == int($kills / 4);
		$pid = at_it($t, $run, $pid, $seen) or last;
		usleep(int rand 400_000);
		$at{ progress($t, $run) // '' }++;
		$seen = $t->{sim}->stats->{requests};
		kill('KILL', $pid) or next;
		$done++;
		alive($t);
	}
	is($done, $kills, "$t->{name}: killed $kills times within the run");
	cmp_ok(scalar(keys %at), '>=', $kills / 3, "$t->{name}: at different places") or diag(join ' ', sort { $a <=> $b } keys %at);
	note("$t->{name}: killed with so many items through: " . join ' ', sort { $a <=> $b } keys %at);
	finish($t, $run);
	end_scenario($t);
	return;
}

# b. Breaks: pg_ctl stop -m immediate while the worker is within the transaction that claims, or that settles; or
# while the platform has a request that it has not done yet, or has done and not answered.
# Compares: the platform with the portfolio.
sub stopped_immediately
{
	my (%opt) = @_;
	stopped_at(%opt, where => $_->[0], what => $_->[1]) for @{ $opt{moments} };
	return;
}

sub stopped_at
{
	my (%opt) = @_;
	my ($where, $what) = @opt{qw(where what)};
	my $place = "$where of " . (ref $what ? $what->{endpoint} : $what);
	my $t = scenario("stopped at $place ($opt{write_api})", applications => $opt{applications} // 8,
		settings => { write_api => $opt{write_api}, batch_items => 8 });
	storm($t);
	my $gate;
	if (ref $what)
	{
		fault_first($t, fault => $where eq 'send' ? 'hang' : 'hang_after_commit', %$what);
	}
	else
	{
		$gate = hold_gate($t, $where, $what);
	}
	my $run = begin_run($t);
	my $there = $gate ? at_gate($t) : poll_until(sub { $t->{sim}->stats->{hanging} > 0 }, what => 'a request that hangs');
	ok($there, "$t->{name}: the worker is there");
	$t->{node}->stop('immediate');
	$gate->{harness}->kill_kill if $gate;
	calm($t);
	storm($t);
	$t->{node}->start;
	finish($t, $run);
	end_scenario($t);
	return;
}

# A fault that goes before those of the storm, which would otherwise be asked first.
sub fault_first
{
	my ($t, %spec) = @_;
	calm($t);
	fault($t, %spec);
	storm($t);
	return;
}

# c. Breaks: pg_terminate_backend() of the worker, several times.
# Compares: the platform with the portfolio.
sub workers_terminated
{
	my (%opt) = @_;
	my $t = scenario("terminated ($opt{write_api})", applications => $opt{applications} // 20,
		settings => { write_api => $opt{write_api}, batch_items => 5, max_concurrency => 4 },
		simulator => [ '--switch', 'latency_ms=100' ]);
	storm($t);
	my $run = begin_run($t);
	my ($done, $pid, $seen) = (0, '', 0);
	while ($done < $opt{times})
	{
		$pid = at_it($t, $run, $pid, $seen) or last;
		usleep(int rand 300_000);
		$seen = $t->{sim}->stats->{requests};
		$done++ if (ask($t, "SELECT pg_terminate_backend($pid, 5000)") // '') eq 't';
	}
	is($done, $opt{times}, "$t->{name}: ended $opt{times} times within the run");
	finish($t, $run);
	end_scenario($t);
	return;
}

# d. Breaks: the network between here and the platform: cut (connections reset, new ones refused) and stalled
# (nothing comes through), and back.
# Compares: the platform with the portfolio.
sub network_cut
{
	my (%opt) = @_;
	my $t = scenario("network ($opt{write_api})", applications => $opt{applications} // 20, relay => 1,
		conf => "pgsync_itsm.request_timeout = '2s'\n",
		settings => { write_api => $opt{write_api}, batch_items => 5, max_concurrency => 4 },
		simulator => [ '--switch', 'latency_ms=50' ]);
	storm($t);
	my $run = begin_run($t);
	my $done = 0;
	for my $how (@{ $opt{cuts} })
	{
		my $seen = $t->{sim}->stats->{requests};
		last unless poll_until(sub { return $t->{sim}->stats->{requests} > $seen + 3 || ended($t, $run) && -1 });
		usleep(int rand 200_000);
		last if ended($t, $run);
		$t->{relay}->tell($how);
		# long enough for what is in flight to fail
		my $until = time() + ($how eq 'stall' ? 3 : 1);
		my $during = $t->{sim}->stats->{requests};
		poll_until(sub { time() > $until }, seconds => 10);
		cmp_ok($t->{sim}->stats->{requests}, '<=', $during + 8, "$t->{name}: $how: nothing comes through") if $how eq 'cut';
		$t->{relay}->tell('back');
		$done++;
	}
	is($done, scalar @{ $opt{cuts} }, "$t->{name}: cut $done times within the run");
	finish($t, $run);
	end_scenario($t);
	return;
}

# e. Breaks: the platform is away for as long as it takes sixty seconds in production (twenty times as fast here).
# Compares: the platform with the portfolio; and counts the requests that it saw while it was away.
sub platform_away
{
	my (%opt) = @_;
	my $t = scenario("away ($opt{write_api})", applications => $opt{applications} // 20,
		conf => "pgsync_itsm.retry_delay = '50ms'\npgsync_itsm.retry_delay_max = '3s'\n",
		settings => { write_api => $opt{write_api}, batch_items => 5, max_attempts => 8, breaker_failures => 5 },
		simulator => [ '--switch', 'latency_ms=30' ]);
	my $run = begin_run($t);
	ok(poll_until(sub { (progress($t, $run) // 0) > 10 || ended($t, $run) }), "$t->{name}: the run is on its way");
	fault($t, fault => 'status', status => 503);
	my $seen = $t->{sim}->stats->{requests};
	my ($until, %state, $reason) = (time() + 3);
	poll_until(
		sub {
			my ($state, $why) = split /\|/, ask($t, "SELECT state, reason FROM itsm_stat_connection WHERE connection_id = '$t->{conn}'") // '';
			$state{ $state // '' }++;
			$reason = $why if ($state // '') eq 'open';
			return time() > $until;
		}, seconds => 30);
	my $tried = $t->{sim}->stats->{requests} - $seen;
	ok($state{open}, "$t->{name}: the circuit breaker opens") or diag(join ' ', %state);
	like($reason // '', qr/503|unavailable/i, "$t->{name}: and says why");
	cmp_ok($tried, '<', 25, "$t->{name}: few requests while it is away");
	finish($t, $run);
	is(ask($t, "SELECT state FROM itsm_stat_connection WHERE connection_id = '$t->{conn}'"), 'active', "$t->{name}: closed again");
	end_scenario($t);
	return;
}

# f. Breaks: tokens end in mid-run: they live for two seconds, and are revoked before that as well.
# Compares: the platform with the portfolio.
sub token_revoked
{
	my (%opt) = @_;
	my $t = scenario("token ($opt{write_api})", applications => $opt{applications} // 20,
		settings => { write_api => $opt{write_api}, batch_items => 5, max_concurrency => 4 },
		simulator => [ '--switch', 'latency_ms=100' ]);
	$t->{sim}->post('/__sim/switches', { access_token_seconds => 2 });
	# apart from each other: two in a row are a user who was locked out
	fault($t, endpoint => '/api/', sub => JSON::PP::false, fault => 'token_expiry', count => 1, skip => $_) for 4, 10, 25;
	storm($t);
	my $run = begin_run($t);
	wait_for_run($t->{node}, $t->{db}, $run);
	my $stats = $t->{sim}->stats;
	finish($t, $run);
	cmp_ok($stats->{faults_fired}{token_expiry} // 0, '>', 0, "$t->{name}: a token was revoked");
	cmp_ok($stats->{tokens_issued}, '>', 2, "$t->{name}: new ones were had");
	cmp_ok($stats->{tokens_issued}, '<', $stats->{requests} / 2, "$t->{name}: and not one for each call");
	is(ask($t, "SELECT paused_at IS NULL FROM integration_connections WHERE id = '$t->{conn}'"), 't', "$t->{name}: not paused");
	end_scenario($t);
	return;
}

# g. Breaks: one kind of fault at a tenth of the calls of a whole run.
# Compares: the platform with the portfolio; what a business rule there refused is dead, named, and arrives when it
# is queued again.
my %kind = (
	status_500 => [ { fault => 'status', status => 500 } ],
	status_502 => [ { fault => 'status', status => 502 } ],
	status_503 => [ { fault => 'status', status => 503 } ],
	status_504 => [ { fault => 'status', status => 504 } ],
	delay      => [ { fault => 'delay', seconds => 0.3 } ],
	close_before_reply => [ { fault => 'close_before_reply' } ],
	html        => [ { fault => 'html' } ],
	202         => [ { fault => '202' } ],
	retry_after => [ { fault => 'retry_after', seconds => 1 } ],
	semaphore   => [ { fault => 'semaphore' } ],
	token_expiry => [ { fault => 'token_expiry' } ],
	quota        => [ { fault => 'quota', endpoint => '/api/' } ],
	lock_timeout => [ { fault => 'lock_timeout', endpoint => 'identifyreconcile' }, { fault => 'lock_timeout', endpoint => 'cmdb/instance' } ],
	business_rule_abort => [ map { { fault => 'business_rule_abort', endpoint => $_, name => 'Guard', method => 'POST' } }
		  qw(identifyreconcile cmdb/instance /api/now/table/) ],
	close_after_commit => [ { fault => 'close_after_commit' } ],
	truncated_body     => [ { fault => 'truncated_body' } ],
	garbage_body       => [ { fault => 'garbage_body' } ],
	nul                => [ { fault => 'nul' } ],
	nul_raw            => [ { fault => 'nul', mode => 'raw' } ],
	bad_utf8           => [ { fault => 'bad_utf8' } ],
	huge               => [ { fault => 'huge', bytes => 3_000_000 } ],
	quota_cut          => [ { fault => 'quota_cut', endpoint => '/api/' } ],
	quota_cut_member   => [ { fault => 'quota_cut', mode => 'member', endpoint => '/api/' } ],
	# the Table API alone says so of what it has made
	forbidden_but_created => [ map { { fault => 'forbidden_but_created', endpoint => $_, method => 'POST' } }
		  '/api/now/table/core_company', '/api/now/table/ast_contract', '/api/now/table/cmdb_rel_ci', '/api/now/table/cmdb_software_product_model' ],
	batch_part_500   => [ { fault => 'status', status => 500, endpoint => '/api/now/table/', sub => JSON::PP::true } ],
	batch_part_close => [ { fault => 'close_after_commit', endpoint => '/api/now/table/', sub => JSON::PP::true } ]);

sub FAULT_KINDS { return sort keys %kind }

# kinds that make dead letters by what they say, and whose dead letters are good
my %refuses = (business_rule_abort => 1, forbidden_but_created => 1);

# kinds that by chance look like a user who was locked out: two fresh tokens refused in a row, which pauses the connection
my %locks_out = (token_expiry => 1);

# An administrator who lets the connection go on as often as that happens, and for no other reason.
sub activate_until_ended
{
	my ($t, $run) = @_;
	poll_until(
		sub {
			ask($t, "SELECT itsm_activate(id) FROM integration_connections WHERE id = '$t->{conn}' AND pause_reason LIKE 'answered 401:%'");
			return ended($t, $run);
		}, what => 'the run to end', seconds => 120);
	return;
}

sub fault_kind
{
	my ($kind, %opt) = @_;
	my $t = scenario("$kind ($opt{write_api})", applications => $opt{applications} // 15,
		conf => "pgsync_itsm.max_response_size = '1MB'\n",
		settings => { write_api => $opt{write_api}, batch_items => 10, max_concurrency => $opt{write_api} eq 'ire' ? 2 : 8 });
	# a tenth of few calls may be none: one of them for certain
	fault($t, skip => 3, count => 1, %$_) for @{ $kind{$kind} };
	fault($t, probability => 0.1, %$_) for @{ $kind{$kind} };
	my $run = begin_run($t);
	activate_until_ended($t, $run) if $locks_out{$kind};
	my $row = eval { wait_for_run($t->{node}, $t->{db}, $run, seconds => 120) };
	my $fired = $t->{sim}->stats->{faults_fired};
	note("$t->{name}: fired " . join ', ', map { "$_ $fired->{$_}" } sort keys %$fired);
	$run = refused_and_requeued($t, $run, $row) if $refuses{$kind};
	finish($t, $run);
	end_scenario($t);
	return $fired;
}

# The run that brings the rest: what named a record that was refused can have gone without it.
sub refused_and_requeued
{
	my ($t, $run, $row) = @_;
	is($row->{status} // '', 'done', "$t->{name}: the run ends with what is refused");
	is(ask($t, "SELECT count(*) FROM integration_run_items WHERE run_id = $run AND state = 'dead' AND (reason IS NULL OR error_class IS NULL)"),
		'0', "$t->{name}: every dead letter has a class and a reason");
	my %aside = %{ put_aside($t->{node}, $t->{db}, $run, dead => 1) };
	both_sides_equal($t->{node}, $t->{db}, $t->{ns}, $t->{sim}, $t->{before}, conn => $t->{conn}, aside => \%aside,
		name => "$t->{name}: everything else has arrived");
	calm($t);
	my $open = "SELECT count(*) FROM integration_run_items WHERE run_id = $run AND state IN ('dead', 'skipped')";
	note("$t->{name}: " . ask($t, $open) . ' dead or skipped');
	# what was skipped for the sake of a dead one can be had only when that one is there
	for my $round (1 .. 3)
	{
		last if ask($t, $open) eq '0';
		ask($t, "SELECT itsm_requeue(run_id => $run)");
		wait_for_run($t->{node}, $t->{db}, $run, seconds => 60, states => [qw(done failed cancelled)]);
	}
	is(ask($t, $open), '0', "$t->{name}: queued again, they go, and what was skipped for their sake");
	return begin_run($t);
}

# The answer that a new relationship was made is lost, and later its link goes; or its run is cancelled over it.
# Compares: the platform with the portfolio: what was made unheard is ours, and so it is removed.
sub unheard_link
{
	my (%opt) = @_;
	my $t = scenario("$opt{fault}, unheard ($opt{write_api})", applications => 5, settings => { write_api => $opt{write_api} });
	wait_for_run($t->{node}, $t->{db}, begin_run($t));
	# a link that has been taken away before, so that there is one to make
	my $pair = ask($t, "DELETE FROM deployment_profile_it_services WHERE id = (SELECT min(l.id::text)::uuid FROM deployment_profile_it_services l
		JOIN deployment_profiles p ON p.id = l.deployment_profile_id AND p.sn_sync_scope = 'application_service')
		RETURNING quote_literal(deployment_profile_id) || ', ' || quote_literal(it_service_id)");
	wait_for_run($t->{node}, $t->{db}, begin_run($t));
	ask($t, "INSERT INTO deployment_profile_it_services (deployment_profile_id, it_service_id, relationship_type) VALUES ($pair, 'depends_on')");
	fault($t, fault => $opt{fault}, method => 'POST', endpoint => $_, count => 1) for 'identifyreconcile', 'cmdb_rel_ci', 'cmdb/instance';
	my $run   = begin_run($t);
	my $fired = sub { $t->{sim}->stats->{faults_fired}{ $opt{fault} } // 0 };
	if ($opt{cancel})
	{
		poll_until($fired, what => 'the relationship to be made');
		ask($t, "SELECT itsm_cancel($run)");
	}
	is((wait_for_run($t->{node}, $t->{db}, $run))->{status}, $opt{cancel} ? 'cancelled' : 'done', "$t->{name}: as far as it goes");
	cmp_ok($fired->(), '>', 0, "$t->{name}: unheard");
	calm($t);
	wait_for_run($t->{node}, $t->{db}, begin_run($t)) if $opt{cancel};
	is(ask($t, "SELECT created_by_us FROM integration_sync_map AS m JOIN integration_run_items AS i USING (connection_id, entity_type, entity_id)
		WHERE i.run_id = $run AND i.entity_type = 'depends_on' AND i.action = 'CREATE'"), 't', "$t->{name}: it is known as ours");
	ask($t, "DELETE FROM deployment_profile_it_services WHERE (deployment_profile_id, it_service_id) = ($pair)");
	finish($t, begin_run($t));
	end_scenario($t);
	return;
}

# h. Breaks: the primary is killed in mid-run and its standby promoted; with behind => 1 the standby has not received
# the last commits of the primary, so that it does not know what was sent meanwhile.
# Compares: the platform with the portfolio.
sub standby_promoted
{
	my (%opt) = @_;
	my $t = scenario('promoted' . ($opt{behind} ? ', behind' : '') . " ($opt{write_api})", applications => $opt{applications} // 20,
		cluster => { allows_streaming => 1 },
		settings => { write_api => $opt{write_api}, batch_items => 5, max_concurrency => 4 },
		simulator => [ '--switch', 'latency_ms=60' ]);
	my $primary = $t->{node};
	$primary->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new($primary->name . '_standby');
	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	# the key file is not in the cluster: the operator copies it
	my $key = $primary->safe_psql('postgres', 'SHOW pgsync_itsm.key_file');
	File::Copy::copy($key, "$key.standby") or croak "$key: $!";
	chmod 0600, "$key.standby";
	$standby->append_conf('postgresql.conf', "pgsync_itsm.key_file = '$key.standby'\n");
	$standby->start;
	$primary->wait_for_catchup($standby);
	storm($t);
	my $run = begin_run($t);
	my $halfway = $opt{share} // 0.3;
	ok(poll_until(sub { my $p = ask($t, "SELECT coalesce(avg((state = 'done')::int), 0) FROM integration_run_items WHERE run_id = $run") // 0; $p > $halfway }),
		"$t->{name}: the run is on its way");
	if ($opt{behind})
	{
		$standby->safe_psql('postgres', "ALTER SYSTEM SET primary_conninfo = ''");
		$standby->safe_psql('postgres', 'SELECT pg_reload_conf()');
		poll_until(sub { $standby->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_wal_receiver') eq '0' });
		my $seen = $t->{sim}->stats->{writes};
		ok(poll_until(sub { $t->{sim}->stats->{writes} > $seen + 10 || ended($t, $run) }), "$t->{name}: the primary goes on alone");
	}
	else
	{
		$primary->wait_for_catchup($standby);
	}
	$primary->stop('immediate');
	$t->{node} = $standby;
	$standby->promote;
	ok(wait_for_worker($standby, 'postgres'), "$t->{name}: promoted, it has a worker");
	finish($t, $run);
	end_scenario($t);
	return;
}

# i. Breaks: the database is dumped in mid-run and restored into another cluster, where nothing may leave it until
# itsm_adopt() is called; with meanwhile => 1 the old one has finished its run after the dump was taken.
# Compares: requests before and after the adoption; the platform with the portfolio.
sub restored_elsewhere
{
	my (%opt) = @_;
	my $t = scenario('restored' . ($opt{meanwhile} ? ', old one went on' : '') . " ($opt{write_api})", applications => $opt{applications} // 20,
		settings => { write_api => $opt{write_api}, batch_items => 5, max_concurrency => 4 },
		simulator => [ '--switch', 'latency_ms=60' ]);
	my $old = $t->{node};
	my $new = new_cluster(name => $old->name . '_copy', databases => 'copy',
		conf => "pgsync_itsm.retry_delay = '50ms'\npgsync_itsm.retry_delay_max = '1s'\n");
	my $key = $old->safe_psql('postgres', 'SHOW pgsync_itsm.key_file');
	$new->append_conf('postgresql.conf', "pgsync_itsm.key_file = '$key'\n");
	$new->reload;
	$new->safe_psql('postgres', 'CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role');
	$new->safe_psql('postgres', 'CREATE DATABASE copy');
	storm($t);
	my $run = begin_run($t);
	ok(poll_until(sub { my $p = ask($t, "SELECT coalesce(avg((state = 'done')::int), 0) FROM integration_run_items WHERE run_id = $run") // 0; $p > 0.3 }),
		"$t->{name}: the run is on its way");
	my $dump = $old->basedir . '/dump';
	$old->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $old->connstr('postgres') ], "$t->{name}: dumped");
	wait_for_run($old, 'postgres', $run) if $opt{meanwhile};
	$old->stop('immediate');
	my $seen = $t->{sim}->stats->{requests};
	$new->command_ok([ 'pg_restore', '--exit-on-error', '-d', $new->connstr('copy'), $dump ], "$t->{name}: restored");
	@{$t}{qw(node db)} = ($new, 'copy');
	ok(wait_for_worker($new, 'copy'), "$t->{name}: a worker serves the copy");
	my ($rc, $out, $err) = $new->psql('copy', "CALL itsm_wait($run)");
	like($err, qr/itsm_adopt/, "$t->{name}: waiting for the run there says what is missing");
	is($t->{sim}->stats->{requests}, $seen, "$t->{name}: and not one request is made");
	$new->safe_psql('copy', 'SELECT itsm_adopt()');
	finish($t, $run);
	end_scenario($t);
	return;
}

# j. Breaks: a run is cancelled in mid-run, once while it is busy, once while the platform has done what it was told
# and does not answer.
# Compares: the time of the last request with that of the cancel; after itsm_retry() the platform with the portfolio.
sub cancelled_run
{
	my (%opt) = @_;
	my $t = scenario("cancelled ($opt{write_api})", applications => $opt{applications} // 20,
		settings => { write_api => $opt{write_api}, batch_items => 5, max_concurrency => 4 },
		simulator => [ '--switch', 'latency_ms=60' ]);
	storm($t);
	my $run = begin_run($t);
	ok(poll_until(sub { (progress($t, $run) // 0) > 15 || ended($t, $run) }), "$t->{name}: the run is on its way");
	stopped_within_a_second($t, $run);

	# the second one hangs on what was done there and not answered
	fault_first($t, fault => 'hang_after_commit', method => 'POST', endpoint => $_) for @{ $opt{hang} // ['ast_contract'] };
	my $second = $t->{node}->safe_psql($t->{db}, "SELECT itsm_retry($run)");
	my $state = poll_until(sub { my $r = run_row($t->{node}, $t->{db}, $second)->{status}; return $r if $r =~ /^(needs_approval|done|failed|cancelled)$/;
			return $t->{sim}->stats->{hanging} > 0 ? 'hanging' : '' }, what => 'a request that hangs');
	if ($state eq 'needs_approval')
	{
		$t->{node}->safe_psql($t->{db}, "SELECT itsm_apply($second)");
		$state = poll_until(sub { $t->{sim}->stats->{hanging} > 0 ? 'hanging' : ended($t, $second) ? 'ended' : '' });
	}
	is($state, 'hanging', "$t->{name}: the second hangs after the deed");
	stopped_within_a_second($t, $second);
	calm($t);
	storm($t);

	# what still hangs must not hold up the next one
	my $third = $t->{node}->safe_psql($t->{db}, "SELECT itsm_retry($second)");
	my $row = eval { wait_for_run($t->{node}, $t->{db}, $third, seconds => 45) };
	ok($row, "$t->{name}: the next run is not held up by what hangs");
	$t->{node}->safe_psql($t->{db}, "SELECT itsm_apply($third)") if $row && $row->{status} eq 'needs_approval';
	poll_until(sub { ended($t, $third) }, seconds => 60);
	finish($t, $third);
	end_scenario($t);
	return;
}

sub stopped_within_a_second
{
	my ($t, $run) = @_;
	my $begin = time();
	$t->{node}->safe_psql($t->{db}, "SELECT itsm_cancel($run)");
	my $row = wait_for_run($t->{node}, $t->{db}, $run, states => [qw(done failed cancelled)]);
	my $took = time() - $begin;
	is($row->{status}, 'cancelled', "$t->{name}: run $run is cancelled");
	cmp_ok($took, '<', 1, "$t->{name}: within a second");
	# nothing may come after that second: one more is looked at
	poll_until(sub { time() > $begin + 2 }, seconds => 5);
	my ($last) = @{ $t->{sim}->get('/__sim/requests?n=1')->{requests} };
	cmp_ok($last->{at}, '<', $begin + 1, "$t->{name}: and nothing reaches the platform afterwards");
	return;
}

# k. Breaks nothing: a run that would change more than max_changes waits before it sends anything.
# Compares: the writes that the platform saw before and after the approval; the platform with the portfolio.
sub needs_approval
{
	my (%opt) = @_;
	my $t = scenario('guard', applications => 20, settings => { write_api => 'ire' });
	storm($t);
	my $run = begin_run($t);
	wait_for_run($t->{node}, $t->{db}, $run);
	for my $limit (qw(5 20%))
	{
		$t->{node}->safe_psql($t->{db}, "SELECT itsm_set('$t->{conn}', 'max_changes', '$limit');
			UPDATE applications SET short_description = 'changed under $limit'");
		$t->{sim}->reset_counters;
		my ($next) = publish_runs($t->{node}, $t->{db}, $t->{ns}, confirm => 0);
		my $row = wait_for_run($t->{node}, $t->{db}, $next);
		is($row->{status}, 'needs_approval', "guard $limit: the run waits");
		like($row->{approval_reason} // '', qr/20 .*\Q$limit\E|\Q$limit\E.* 20/, "guard $limit: and says what it would change");
		my $stats = $t->{sim}->stats;
		is($stats->{writes} + $stats->{batch_subrequests}{writes}, 0, "guard $limit: nothing was written");
		$t->{node}->safe_psql($t->{db}, "SELECT itsm_apply($next)");
		wait_for_run($t->{node}, $t->{db}, $next, states => [qw(done failed cancelled)]);
		$run = $next;
	}
	finish($t, $run);
	end_scenario($t);
	return;
}

1;
