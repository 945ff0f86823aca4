# PgsyncItsmTwoWay.pm: random work on both sides of a connection, held against PgsyncItsmModel.
#
# A list of steps is made first, from a seed, and played after; a step that does not apply (its record is gone) is left
# out.  Every so often comes a rest: faults end, readings and publishes take turns until neither has anything to do, and
# each record is compared field by field, here, there, and in the model.  When that fails the list is made shorter, until
# time is up, and the shortest that still fails is printed so that it can be pasted: MODEL_LIST=file plays it.
#
#   MODEL_SEED, MODEL_STEPS   a list again;  MODEL_SHRINK   seconds for making it shorter, 0: not at all
#   MODEL_SECONDS     ends with the rest after that time
#   MODEL_VERBOSE=1   each step in the log;  MODEL_KEEP     so many seconds the servers stay up after a failure
#   MODEL_SQL         statements to begin with: what the test has to find

package PgsyncItsmTwoWay;

use strict;
use warnings;
use utf8;
use Encode ();
use Exporter 'import';
use IPC::Run ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time usleep);
use Time::Local qw(timegm);
use PostgreSQL::Test::Utils;
use PgsyncItsm;
use PgsyncItsmFaults;
use PgsyncItsmModel;

our @EXPORT = qw(two_way one_list);

use constant { APPLICATIONS => 5, JANE => 'jane.doe:hers', DB => 'postgres' };
my $json = JSON::PP->new->canonical->allow_nonref;

# ---- making a list ------------------------------------------------------------------------------------

sub pick { return $_[ rand @_ ] }

my %table = (application => 'applications', deployment_profile => 'deployment_profiles');
my %class = (application => 'cmdb_ci_business_app', deployment_profile => 'cmdb_ci_service_auto');
my %column = (comments => 'description');
my %here_values = (operational_status => [qw(operational operational pipeline retired)], environment => [qw(PROD DEV SBX TEST UAT)]);
my %there_values = (operational_status => [qw(1 1 7 6)], environment => [qw(Production Development Test)]);
my @text = (qw(plain) x 6, qw(empty emoji long other base) x 2);
my @faults = (
	{ fault => 'status', status => 500 }, { fault => 'status', status => 503 }, { fault => 'close_after_commit' }, { fault => 'truncated_body' },
	{ fault => 'retry_after', seconds => 1 }, { fault => 'short_list' }, { fault => 'wrong_total', total => 3 }, { fault => 'delay', seconds => 0.3 });

# What a step says of a value: what kind of text, and a number that makes it differ from others; or the choice.
sub make_values
{
	my ($type, $side, $n) = @_;
	my @fields = @{ $PgsyncItsmModel::FIELDS{$type} };
	my %values;
	for (1 .. pick(1, 1, 1, 2, 3))
	{
		my $f = pick(@fields);
		my $choices = $side eq 'here' ? $here_values{$f} : $there_values{$f};
		$values{$f} = $choices ? pick(@$choices) : $f eq 'name' ? pick("plain $n", "plain $n", "emoji $n", "base $n", "other $n") : pick(@text) . " $n";
	}
	return \%values;
}

# Records have numbers: applications 0, 2, ...; the profile of each the number behind it.
sub make_steps
{
	my ($count) = @_;
	my @alive = 0 .. 2 * APPLICATIONS - 1;
	my ($next, $since, $faulty, @steps) = (scalar @alive, 0, 0);
	my $type = sub { $_[0] % 2 ? 'deployment_profile' : 'application' };
	while (@steps < $count)
	{
		my ($n, $record, $dice) = (scalar @steps, pick(@alive), rand 100);
		# some records meet more than others
		$record = $alive[ rand 4 ] if rand() < 0.5;
		if ($since > 12 && rand() < 0.12)
		{
			push @steps, ['rest'];
			push @steps, [ policy => pick(qw(manual manual last_write_wins local_wins remote_wins)) ] if rand() < 0.5;
			push @steps, [ schedule => pick(qw(manual on_change)) ] if rand() < 0.4;
			push @steps, [ authority => pick(qw(short_description comments version)), pick(qw(policy ours theirs newest if_empty manual)) ] if rand() < 0.3;
			($since, $faulty) = (0, 0);
			next;
		}
		$since++;
		if    ($dice < 26) { push @steps, [ here => $record, make_values($type->($record), 'here', $n) ] }
		elsif ($dice < 52) { push @steps, [ there => $record, make_values($type->($record), 'there', $n) ] }
		elsif ($dice < 53.5)
		{
			push @steps, [ there => $record, make_values($type->($record), 'there', $n) ];
			push @steps, [ slow => $record, make_values($type->($record), 'here', $n) ];
		}
		elsif ($dice < 55) { push @steps, [ bulk => pick("short_description plain $n", "comments plain $n", "version plain $n", "version empty $n") ] }
		elsif ($dice < 62) { push @steps, ['publish'] }
		elsif ($dice < 69) { push @steps, ['subscribe'] }
		elsif ($dice < 73) { push @steps, ['both'] }
		elsif ($dice < 86) { push @steps, ['wait'] }
		elsif ($dice < 91) { push @steps, [ resolve => int(rand 10), pick(qw(ours theirs value)), pick('plain', 'emoji', 'empty') . " $n", rand() < 0.15 ? 'refused' : () ] }
		elsif ($dice < 93)
		{
			push @steps, [ create => $next ];
			push @alive, $next, $next + 1;
			$next += 2;
		}
		elsif ($dice < 95 && @alive > 2 * APPLICATIONS - 2)
		{
			my $how = pick('delete', 'delete_there');
			push @steps, [ $how => $record ];
			my %gone = ($record => 1, $how eq 'delete' && !($record % 2) ? ($record + 1 => 1) : ());
			@alive = grep { !$gone{$_} } @alive;
		}
		elsif ($dice < 96) { push @steps, [ pick(qw(kill terminate immediate)), int rand 400 ] }
		elsif ($dice < 98.5) { push @steps, [ fault => int rand @faults ]; $faulty = 1 }
		elsif ($dice < 98.8) { push @steps, ['revoke'] }
		elsif ($dice < 99.5)
		{
			# a change there that cannot be written here when it is read
			push @steps, [ refuse => $record ], [ there => $record, make_values($type->($record), 'there', $n) ], ['subscribe'];
			push @steps, ['wait'] if rand() < 0.5;
		}
		elsif ($dice < 99.7) { push @steps, ['accept'] }
		elsif ($faulty) { push @steps, ['calm'] }
	}
	push @steps, ['rest'];
	return \@steps;
}

# ---- both sides -----------------------------------------------------------------------------------------

sub sql
{
	my ($t, $text) = @_;
	return Encode::decode('UTF-8', $t->{node}->safe_psql(DB, Encode::encode('UTF-8', $text)));
}

sub rows { my ($t, $text) = @_; return @{ $json->decode(sql($t, "SELECT coalesce(json_agg(x), '[]') FROM ($text) AS x")) } }

sub begin
{
	my ($t) = { faults => 0, model => PgsyncItsmModel->new, records => {}, rested => 0 };
	$t->{node} = new_cluster(conf => "wal_level = replica\npgsync_itsm.debounce = 0\npgsync_itsm.retry_delay = '50ms'\npgsync_itsm.retry_delay_max = '500ms'\n");
	$t->{sim} = start_simulator(options => [ '--seed', 1, '--switch', 'choice_cache_seconds=0',
		# what retires there drags another field along, which has no column here
		'--switch', 'retired_sync=false', '--user', JANE . ':itil,asset,admin' ]);
	load_getinsync($t->{node}, DB, generate => { applications => APPLICATIONS, profiles => 1, services => 1, products => 1 });
	load_platform($t->{sim}, $t->{node}, DB);
	$t->{ns} = namespace_of($t->{node}, DB);
	$t->{space} = sql($t, 'SELECT id FROM workspaces ORDER BY id LIMIT 1');
	$t->{conn} = connect_and_activate($t->{node}, DB, $t->{sim}, namespace => $t->{ns},
		settings => { max_attempts => 50, breaker_failures => 100, shrink_percent => 100 });
	sql($t, "SELECT itsm_set('$t->{conn}', 'sync_direction', 'both')");
	sql($t, q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF (SELECT a.backend_type FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = pg_backend_pid()) LIKE 'pgsync_itsm%' THEN
				RAISE EXCEPTION 'refused by the test';
			END IF;
			RETURN NEW;
		END $$});
	sql($t, slurp_file($ENV{MODEL_SQL})) if $ENV{MODEL_SQL};
	my $n = 0;
	for my $app (rows($t, 'SELECT id FROM applications ORDER BY name'))
	{
		know($t, $n, 'application', $app->{id});
		know($t, $n + 1, 'deployment_profile', sql($t, "SELECT id FROM deployment_profiles WHERE application_id = '$app->{id}'"));
		$n += 2;
	}
	rest($t);
	return $t;
}

sub end { my ($t) = @_; $t->{sim}->stop; $t->{node}->stop('immediate'); $t->{node}->clean_node; return }

sub know
{
	my ($t, $n, $type, $id) = @_;
	$t->{records}{$n} = { type => $type, id => $id, here => 1, there => 1 };
	my ($row) = values %{ here($t, $type, $id) };
	$t->{model}->add($id, $type, { map { $_ => $row->{$_} } @{ $PgsyncItsmModel::FIELDS{$type} } }, $row->{application_id});
	return;
}

# Rows here, as { id => { field => value } }, all of a type or one.
sub here
{
	my ($t, $type, $id) = @_;
	my $columns = join ', ', map { my $c = $column{$_} // $_; "coalesce($c, '') AS $_" } @{ $PgsyncItsmModel::FIELDS{$type} };
	return { map { $_->{id} => $_ } rows($t, "SELECT id, $columns" . ($type eq 'deployment_profile' ? ', name, application_id, operational_status' : '')
			  . " FROM $table{$type} WHERE " . ($id ? "id = '$id'" : 'true')) };
}

# Rows there by the id that we gave them; several of one: they are in the list.
sub there
{
	my ($t, $type) = @_;
	my %rows;
	push @{ $rows{ $_->{correlation_id} } }, $_ for @{ $t->{sim}->dump($class{$type})->{ $class{$type} } };
	return \%rows;
}

sub value
{
	my ($t, $record, $field, $side, $said) = @_;
	my ($kind, $n) = $said =~ /^(plain|empty|emoji|long|other|base) (\d+)$/ or return $said;
	return '' if $kind eq 'empty';
	return "Text $n" if $kind eq 'plain';
	return "Füchse 🦊🦊 $n" if $kind eq 'emoji';
	return substr("$n-is-a-long-text-" x 30, 0, 299) . '.' if $kind eq 'long';
	return $record->{base}{$field} // "Text $n" if $kind eq 'base';
	return here($t, $record->{type}, $record->{id})->{ $record->{id} }{$field} // "Text $n" if $side eq 'there';
	my $rows = there($t, $record->{type})->{ $record->{id} };
	return $rows ? $rows->[0]{$field} // '' : "Text $n";
}

sub values_of
{
	my ($t, $record, $side, $said) = @_;
	return { map { $_ => value($t, $record, $_, $side, $said->{$_}) } sort keys %$said };
}

# ---- steps ------------------------------------------------------------------------------------------------

my %step;
%step = (
	here => sub {
		my ($t, $n, $said) = @_;
		my $r = $t->{records}{$n};
		return unless $r && $r->{here};
		update_here($t, $r->{type}, values_of($t, $r, 'here', $said), $r->{id});
	},
	# somebody's transaction that is open for a while, and is committed while a reading wants to write the same row
	slow => sub {
		my ($t, $n, $said) = @_;
		my $r = $t->{records}{$n};
		return unless $r && $r->{here};
		my ($values, $out) = (values_of($t, $r, 'here', $said), '');
		my $statement = update_statement($r->{type}, $values, $r->{id});
		my $writer = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $t->{node}->connstr(DB) ], '<', \Encode::encode('UTF-8', "BEGIN; $statement; SELECT pg_sleep(0.8); COMMIT;\n"), '>', \$out);
		poll_until(sub { $writer->pump_nb; sql($t, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'") ne '0' }, seconds => 5);
		$step{subscribe}->($t);
		$writer->finish or die "slow: $?\n";
		my ($at) = $out =~ /^\Q$r->{id}\E\|([0-9.]+)$/m or die "slow: $out\n";
		$t->{model}->edit_here($r->{id}, $values, $at + 0);
	},
	bulk => sub {
		my ($t, $said) = @_;
		my ($field, $text) = split / /, $said, 2;
		my ($type) = grep { my $type = $_; grep { $_ eq $field } @{ $PgsyncItsmModel::FIELDS{$type} } } sort keys %table;
		update_here($t, $type, { $field => value($t, undef, $field, 'here', $text) });
	},
	there => sub {
		my ($t, $n, $said) = @_;
		my $r = $t->{records}{$n};
		return unless $r && $r->{there} && $r->{here};
		my $row = (there($t, $r->{type})->{ $r->{id} } // return)->[0];
		my $values = values_of($t, $r, 'there', $said);
		$values->{version} = substr $values->{version}, 0, 40 if defined $values->{version};
		my $now = $t->{sim}->by_hand(JANE, PATCH => "$class{$r->{type}}/$row->{sys_id}", $values);
		my ($y, $m, $d, $hour, $min, $sec) = $now->{sys_updated_on} =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)$/;
		$t->{model}->edit_there($r->{id}, $values, timegm($sec, $min, $hour, $d, $m - 1, $y));
	},
	create => sub {
		my ($t, $n) = @_;
		my ($app, $profile) = split /\|/, sql($t, qq{
			WITH a AS (INSERT INTO applications (workspace_id, owner_workspace_id, name, short_description, description) VALUES ('$t->{space}', '$t->{space}', 'New $n', 'Made $n', '') RETURNING id),
			     c AS (INSERT INTO application_contacts (application_id, contact_id, role_type, is_primary)
			           SELECT a.id, (SELECT id FROM contacts ORDER BY id LIMIT 1), r, true FROM a, unnest(ARRAY['business_owner', 'technical_owner']) AS r)
			SELECT id FROM a});
		$profile = sql($t, "UPDATE deployment_profiles SET sn_sync_scope = 'application_service', version = '1' WHERE application_id = '$app' RETURNING id");
		know($t, $n, 'application', $app);
		know($t, $n + 1, 'deployment_profile', $profile);
	},
	delete => sub {
		my ($t, $n) = @_;
		my $r = $t->{records}{$n};
		return unless $r && $r->{here};
		my @gone = ($r, $r->{type} eq 'application' ? $t->{records}{ $n + 1 } // () : ());
		sql($t, "DELETE FROM $table{$r->{type}} WHERE id = '$r->{id}'");
		for (grep { $_->{here} } @gone)
		{
			$_->{here} = 0;
			$t->{model}->delete_here($_->{id});
		}
	},
	# writes by the extension to this row fail
	refuse => sub {
		my ($t, $n) = @_;
		my $r = $t->{records}{$n};
		return unless $r && $r->{here} && !$r->{refuses};
		sql($t, "CREATE TRIGGER refuse_$n BEFORE UPDATE ON $table{$r->{type}} FOR EACH ROW WHEN (OLD.id = '$r->{id}') EXECUTE FUNCTION refuse()");
		$r->{refuses} = 1;
		$t->{model}->refuse($r->{id}, 1);
	},
	accept => sub {
		my ($t) = @_;
		for my $n (sort { $a <=> $b } grep { $t->{records}{$_}{refuses} } keys %{ $t->{records} })
		{
			my $r = $t->{records}{$n};
			sql($t, "DROP TRIGGER refuse_$n ON $table{$r->{type}}");
			$r->{refuses} = 0;
			$t->{model}->refuse($r->{id}, 0);
		}
	},
	delete_there => sub {
		my ($t, $n) = @_;
		my $r = $t->{records}{$n};
		return unless $r && $r->{there} && $r->{here};
		my $row = (there($t, $r->{type})->{ $r->{id} } // return)->[0];
		$t->{sim}->by_hand(JANE, DELETE => "$class{$r->{type}}/$row->{sys_id}");
		$r->{there} = 0;
		$t->{model}->delete_there($r->{id});
	},
	publish => sub { my ($t) = @_; sql($t, "SELECT itsm_publish('$t->{ns}', confirm => true)"); $t->{model}->run('P') },
	subscribe => sub { my ($t) = @_; sql($t, "SELECT itsm_subscribe('$t->{ns}')"); $t->{model}->run('S') },
	both => sub { my ($t) = @_; $step{$_}->($t) for qw(subscribe publish) },
	wait => sub { settle($_[0]) },
	resolve => sub {
		my ($t, $k, $side, $said, $refused) = @_;
		settle($t);
		my @open = rows($t, "SELECT id, entity_type, entity_id, field, theirs FROM integration_conflicts WHERE state = 'open' ORDER BY entity_type, entity_id, field");
		@open = grep { my $c = $_; grep { $_->{id} eq $c->{entity_id} && $_->{here} && $_->{there} } values %{ $t->{records} } } @open;
		my $c = $open[ $k % (@open || 1) ] or return;
		$step{refuse}->($t, grep { $t->{records}{$_}{id} eq $c->{entity_id} } keys %{ $t->{records} }) if $refused;
		# a name that is there already is another test's matter, and a choice is none of these texts
		my $choices = $there_values{ $c->{field} };
		my ($n) = $said =~ /(\d+)$/;
		my $value = $choices ? $choices->[ $n % @$choices ] : value($t, undef, $c->{field}, 'here', $c->{field} eq 'name' ? "plain $n" : $said);
		sql($t, "SELECT itsm_resolve_conflict($c->{id}, '$side'" . ($side eq 'value' ? ', ' . sql_literal($json->encode($value)) : '') . ')');
		$t->{model}->resolve($c->{entity_id}, $c->{field}, $side, $c->{theirs}, $choices ? PgsyncItsmModel::local_value($c->{field}, $value) : $value);
	},
	policy => sub {
		my ($t, $policy) = @_;
		settle($t);
		sql($t, "SELECT itsm_set('$t->{conn}', 'conflict_policy', '$policy')");
		$t->{model}{policy} = $policy;
	},
	authority => sub {
		my ($t, $field, $whose) = @_;
		settle($t);
		my ($type) = grep { my $type = $_; grep { $_ eq $field } @{ $PgsyncItsmModel::FIELDS{$type} } } sort keys %table;
		sql($t, "SELECT itsm_set_mapping('$t->{conn}', entity_type, target_field, expression, authority => '$whose') FROM integration_field_mappings
			WHERE is_default AND entity_type = '$type' AND target_field = '$field'");
		$t->{model}{authority}{$field} = $whose;
	},
	# Published as it changes, and read once in a second; or only when called.
	schedule => sub {
		my ($t, $schedule) = @_;
		settle($t);
		schedule($t, $schedule);
		$t->{model}{free} = $schedule eq 'on_change' ? 1 : 0;
	},
	kill => sub { my ($t, $ms) = @_; crash($t, $ms, sub { kill 'KILL', $_[0] }) },
	terminate => sub { my ($t, $ms) = @_; crash($t, $ms, sub { sql($t, "SELECT pg_terminate_backend($_[0], 5000)") }) },
	immediate => sub { my ($t, $ms) = @_; crash($t, $ms, sub { $t->{node}->stop('immediate'); $t->{node}->start }) },
	# people there work with PATCH and DELETE, and undisturbed
	fault => sub { my ($t, $which) = @_; $t->{model}->disturb(1); fault($t, probability => 0.25, method => $_, %{ $faults[$which] }) for qw(GET POST) },
	# the next update is done there, and its answer lost
	twice => sub { my ($t) = @_; $t->{model}->disturb(1); fault($t, endpoint => 'identifyreconcile', fault => 'truncated_body', count => 1) },
	revoke => sub { my ($t) = @_; $t->{model}->disturb(1); fault($t, endpoint => '/api/', method => $_, fault => 'token_expiry', count => 1) for qw(GET POST) },
	calm => sub { my ($t) = @_; calm($t); $t->{model}->disturb(0) unless @{ $t->{model}{runs} } },
	rest => sub { rest($_[0]) });

sub schedule { my ($t, $schedule) = @_; return sql($t, "SELECT itsm_set('$t->{conn}', 'read_every', " . ($schedule eq 'on_change' ? "'1 second'" : 'NULL') . "); SELECT itsm_schedule('$t->{conn}', '$schedule')") }

sub update_statement
{
	my ($type, $values, $id) = @_;
	my $set = join ', ', map { my $c = $column{$_} // $_; "$c = " . ($values->{$_} eq '' && $_ ne 'comments' ? 'NULL' : sql_literal($values->{$_})) } sort keys %$values;
	return "UPDATE $table{$type} SET $set" . ($id ? " WHERE id = '$id'" : '') . ' RETURNING id, extract(epoch FROM updated_at)';
}

sub update_here
{
	my ($t, $type, $values, $id) = @_;
	for (split /\n/, sql($t, update_statement($type, $values, $id)))
	{
		my ($which, $at) = split /\|/;
		$t->{model}->edit_here($which, $values, $at + 0);
	}
	return;
}

sub crash
{
	my ($t, $ms, $deed) = @_;
	usleep($ms * 1000);
	my $pid = worker_pid($t->{node}, DB);
	return if $pid eq '';
	# what is under way now; what comes after is not concerned
	my $before = $t->{model}{disturbed};
	$t->{model}->disturb(1);
	$t->{model}->disturb($before);
	$deed->($pid);
	poll_until(sub { my $now = ask({ %$t, db => DB }, "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm worker%'") // ''; $now ne '' && $now ne $pid },
		what => 'another worker') or die "no worker comes back\n";
	return;
}

# All runs have ended, with an administrator who lets a paused connection go on; faults that last too long are lifted.
sub settle
{
	my ($t, $seconds) = @_;
	my $begin = time();
	my $calm;
	my $quiet = poll_until(
		sub {
			$calm //= do { calm($t); 1 } if time() > $begin + 20;
			my ($busy, $paused) = split /\|/, sql($t, "SELECT EXISTS (SELECT FROM integration_queue) OR EXISTS (SELECT FROM integration_runs WHERE status IN ('queued', 'planning', 'running')),
				EXISTS (SELECT FROM integration_connections WHERE paused_at IS NOT NULL)");
			sql($t, "SELECT itsm_activate('$t->{conn}')") if $paused eq 't';
			return $busy eq 'f' && $paused eq 'f';
		}, seconds => 90);
	die "runs do not end: " . sql($t, "SELECT string_agg(format('%s %s %s %s', id, kind, status, phase), '; ') FROM integration_runs WHERE status IN ('queued', 'planning', 'running')") . "\n" unless $quiet;
	$t->{model}->settled;
	return;
}

# ---- at rest ----------------------------------------------------------------------------------------------

sub rest
{
	my ($t) = @_;
	calm($t);
	settle($t);
	$step{accept}->($t);
	my $free = $t->{model}{free};
	if ($free)
	{
		schedule($t, 'manual');
		settle($t);
		$t->{model}{free} = 0;
	}
	$t->{model}->disturb(0);
	my $left;
	for my $round (1 .. 6)
	{
		my $last = sql($t, 'SELECT coalesce(max(id), 0) FROM integration_runs');
		for my $kind (qw(subscribe publish))
		{
			$step{$kind}->($t);
			settle($t);
		}
		$left = sql($t, "SELECT coalesce(sum(coalesce(to_create, 0) + coalesce(to_update, 0)), 0) FROM integration_runs WHERE id > $last");
		last if $left eq '0';
	}
	die "it does not come to rest: $left records are written each time\n" if $left ne '0';
	compare($t);
	if ($free)
	{
		schedule($t, 'on_change');
		$t->{model}{free} = 1;
	}
	return;
}

sub compare
{
	my ($t) = @_;
	my %here  = map { $_ => here($t, $_) } keys %table;
	my %there = map { $_ => there($t, $_) } keys %table;
	my %conflicts;
	$conflicts{ $_->{entity_id} }{ $_->{field} } = $_->{base} for rows($t, "SELECT entity_id, field, base FROM integration_conflicts WHERE state = 'open'");
	my @wrong;
	for my $n (sort { $a <=> $b } keys %{ $t->{records} })
	{
		my $r = $t->{records}{$n};
		my ($h, @t) = ($here{ $r->{type} }{ $r->{id} }, @{ $there{ $r->{type} }{ $r->{id} } // [] });
		push @wrong, "record $n is there " . @t . " times" if @t > 1;
		my @fields = (@{ $PgsyncItsmModel::FIELDS{ $r->{type} } });
		my $seen = { here => $h && { map { $_ => $h->{$_} } @fields }, there => $t[0] && { map { $_ => $t[0]{$_} // '' } @fields, 'operational_status' },
			conflicts => [ sort keys %{ $conflicts{ $r->{id} } // {} } ], bases => $conflicts{ $r->{id} } // {} };
		push @wrong, map { "record $n: $_" } grep { defined } $t->{model}->observe($r->{id}, $seen);
		$r->{base} = $h && { %{ $seen->{here} } };
		push @wrong, follows($n, $h, $t[0], $here{application}) if $r->{type} eq 'deployment_profile' && $h && $t[0] && !$conflicts{ $r->{id} };
	}
	push @wrong, grep { defined } unexplained($t);
	die join("\n", @wrong) . "\n" if @wrong;
	$t->{rests}++;
	return;
}

# What of a profile is made from its application.
sub follows
{
	my ($n, $profile, $there, $apps) = @_;
	my $app = $apps->{ $profile->{application_id} };
	my $name = index(lc $profile->{name}, lc $app->{name}) >= 0 ? $profile->{name} : "$app->{name} - $profile->{name}";
	my $status = $app->{operational_status} eq 'retired' ? 6 : $app->{operational_status} eq 'pipeline' ? 7 : $profile->{operational_status} eq 'operational' ? 1 : 2;
	return ($there->{name} eq $name ? () : "record $n is called \"$there->{name}\" there, not \"$name\"",
		$there->{operational_status} eq $status ? () : "record $n has operational_status $there->{operational_status} there, not $status");
}

sub unexplained
{
	my ($t) = @_;
	my $stats = $t->{sim}->stats->{duplicates};
	my $last  = $t->{rested};
	$t->{rested} = sql($t, 'SELECT max(id) FROM integration_runs');
	my $gone = join ',', map { "'$_->{id}'" } grep { !$_->{there} } values %{ $t->{records} };
	my $not = $gone ? "AND coalesce(entity_id NOT IN ($gone), true) AND coalesce(parent_id NOT IN ($gone), true) AND coalesce(child_id NOT IN ($gone), true)" : '';
	my $dead = sql($t, "SELECT string_agg(format('%s %s %s: %s', run_id, entity_type, error_class, reason), E'\\n') FROM integration_run_items WHERE run_id > $last AND state = 'dead' AND coalesce(reason, '') NOT LIKE 'refused by the test%' $not");
	my $bad = sql($t, "SELECT string_agg(format('run %s %s %s: %s', id, kind, status, error_message), E'\\n') FROM integration_runs WHERE id > $last AND status NOT IN ('done', 'failed')");
	return ($dead eq '' ? undef : "dead: $dead", $bad eq '' ? undef : $bad,
		map { $stats->{$_}{count} ? "twice there: $_ " . $json->encode($stats->{$_}) : undef } sort keys %$stats);
}

# What the extension knows of records that are wrong: for who reads the failure, not for the model.
sub story
{
	my ($t, $wrong) = @_;
	my %ids = map { $_ => 1 } $wrong =~ /(\w{8}-\w{4}-\w{4}-\w{4}-\w{12})/g;
	return join '', map { my $id = $_; map { "  $_\n" } split /\n/, sql($t, qq{
		SELECT format('map %s %s agreed %s', state, external_id, last_agreed) FROM integration_sync_map WHERE entity_id = '$id' UNION ALL
		(SELECT format('run %s %s %s: %s %s %s %s (old %s; %s)', r.id, r.kind, r.created_at::time(3), i.action, i.state, left(i.payload::text, 900), i.reason, left(i.old_values::text, 900), i.warnings)
		   FROM integration_run_items i JOIN integration_runs r ON r.id = i.run_id WHERE entity_id = '$id' ORDER BY i.id DESC LIMIT 8) UNION ALL
		(SELECT format('inbox %s of run %s: %s %s, before %s, body %s', received_at::time(3), run_id, state, reason, left(before::text, 900), left(body::text, 900)) FROM integration_inbox WHERE entity_id = '$id' ORDER BY id DESC LIMIT 4) UNION ALL
		(SELECT format('conflict on %s: %s %s of run %s, base %s, ours %s %s, theirs %s %s', field, state, resolution, run_id, base, ours, ours_at, theirs, theirs_at)
		   FROM integration_conflicts WHERE entity_id = '$id' ORDER BY id DESC LIMIT 4)}) } grep { /-/ } sort keys %ids;
}

# ---- playing and making shorter -----------------------------------------------------------------------------

# undef, or what went wrong; and the number of the step.
sub play
{
	my ($steps, %opt) = @_;
	my $t = begin();
	my $n = 0;
	my $wrong;
	for my $s (@$steps)
	{
		my ($what, @args) = @$s;
		note(sprintf "%.2f %s %s", time() - $^T, $n, $json->encode($s)) if $ENV{MODEL_VERBOSE};
		eval { $step{$what}->($t, @args); 1 } or do { $wrong = $@ || 'failed'; $wrong .= eval { story($t, $wrong) } // $@; last };
		last if $opt{until} && time() > $opt{until} && $what eq 'rest';
		$n++;
	}
	diag(sprintf '%d steps, %d rests, %d records compared, %d of them believed, at most %d worlds', $n, $t->{rests}, $t->{model}{checked}, $t->{model}{wide}, $t->{model}{most}) unless $opt{quiet};
	if ($wrong && $ENV{MODEL_KEEP})
	{
		diag(Encode::encode('UTF-8', $wrong));
		diag("kept: " . $t->{node}->connstr(DB) . ' ' . $t->{sim}->url);
		sleep $ENV{MODEL_KEEP};
	}
	end($t);
	return ($wrong, $n);
}

sub shorter
{
	my ($steps, $seconds) = @_;
	my $end = time() + $seconds;
	my ($tries, $why) = (0);
	my $fails = sub {
		my ($list) = @_;
		return 0 if time() > $end;
		$tries++;
		my ($wrong) = play([ @$list, ['rest'] ], quiet => 1);
		$why = $wrong if $wrong;
		return defined $wrong;
	};
	my @list = @$steps;
	pop @list if @list && $list[-1][0] eq 'rest';
	# what came since the last rest, with the rules that held then
	my ($rest) = grep { $list[$_][0] eq 'rest' } reverse 0 .. $#list;
	if (defined $rest)
	{
		my %rule;
		$rule{ join ' ', @{$_}[ 0 .. $#$_ - 1 ] } = $_ for grep { $_->[0] =~ /^(policy|authority|schedule)$/ } @list[ 0 .. $rest ];
		my @tail = ((map { $rule{$_} } sort keys %rule), @list[ $rest + 1 .. $#list ]);
		@list = @tail if $fails->(\@tail) || $fails->(\@tail);
	}
	for (my $size = int((@list + 1) / 2) ; $size >= 1 && time() < $end ; $size = int($size / 2))
	{
		for (my $from = 0 ; $from < @list && time() < $end ;)
		{
			my @without = @list;
			splice @without, $from, $size;
			if ($fails->(\@without)) { @list = @without }
			else                     { $from += $size }
		}
	}
	return ([ @list, ['rest'] ], $why, $tries);
}

sub read_list { return [ map { $json->decode($_) } grep { /^\[/ } split /\n/, $_[0] ] }

# one_list('what it shows', 'a list as it is printed')
sub one_list
{
	my ($name, $text) = @_;
	my ($wrong, $n) = play(read_list($text), quiet => 1);
	is($wrong, undef, $name);
	return;
}

sub two_way
{
	my (%opt) = @_;
	my $seed = $ENV{MODEL_SEED} // $opt{seed} // int(time() * 1000) % 1_000_000;
	my $count = $ENV{MODEL_STEPS} // $opt{steps};
	my $begin = time();
	my $steps;
	if ($ENV{MODEL_LIST})
	{
		$steps = read_list(Encode::decode('UTF-8', slurp_file($ENV{MODEL_LIST})));
	}
	else
	{
		srand($seed);
		$steps = make_steps($count);
		diag("MODEL_SEED=$seed MODEL_STEPS=$count");
	}
	my $seconds = $ENV{MODEL_SECONDS} // $opt{seconds};
	my ($wrong, $n) = play($steps, until => $seconds ? $begin + $seconds : 0);
	ok(!defined $wrong, sprintf 'both sides agree with the model after %d steps', $n) or do
	{
		diag("after step $n: " . Encode::encode('UTF-8', $wrong));
		my $shrink = $ENV{MODEL_SHRINK} // $opt{shrink} // 240;
		my ($list, $why, $tries) = $shrink > 0 ? shorter([ @{$steps}[ 0 .. $n ] ], $shrink) : ([ @{$steps}[ 0 .. $n ] ], undef, 0);
		diag("after $tries tries, the shortest list that fails" . ($why ? ': ' . Encode::encode('UTF-8', $why) : ' is the one that did'));
		diag(Encode::encode('UTF-8', $json->encode($_))) for @$list;
	};
	diag(sprintf '%.0f s', time() - $begin);
	return;
}

1;
