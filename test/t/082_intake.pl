# What the platform knows comes back over HTTP: servers and what runs on them, who owns what, contacts, teams; once, whatever
# dies in between, and without being sent back.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;
use Encode ();

my $city    = '11111111-1111-4111-8111-111111111111';
my $sage    = 'aaaaaaaa-0001-4000-8000-000000000001';
my $profile = 'dddddddd-0001-4000-8000-000000000101';
my $jane    = 'jane.doe:hers';
my $node = new_cluster(name => 'intake', conf => "pgsync_itsm.debounce = 0\n");
my $sim  = start_simulator(options => [ '--user', "$jane:itil,asset,admin,user_admin" ]);
load_platform($sim);
load_getinsync($node, 'postgres');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city);
sub sql { return Encode::decode('UTF-8', $node->safe_psql('postgres', $_[0])) }
is(publish_and_wait($node, 'postgres', $city)->{status}, 'done', 'published');
sql("SELECT itsm_set('$conn', 'sync_direction', 'both')");
my %id = map { split /\|/ } split /\n/, sql("SELECT entity_id, external_id FROM integration_sync_map WHERE entity_id IN ('$sage', '$profile')");

sub there { my ($table, $id) = @_; my ($row) = grep { $_->{sys_id} eq $id } map { @$_ } values %{ $sim->dump($table) }; return $row }
sub added { my ($table, %row) = @_; my $answer = $sim->by_hand($jane, POST => $table, {%row}); my ($row) = grep { my $r = $_; !grep { ($r->{$_} // '') ne $row{$_} } keys %row } @{ $sim->dump($table)->{$table} }; return $row->{sys_id} }
sub edit { my ($table, $id, %row) = @_; $sim->by_hand($jane, PATCH => "$table/$id", {%row}); return }

sub read_back
{
	my ($name) = @_;
	my ($run) = split /\n/, sql("SELECT itsm_subscribe('$city')");
	my $row = wait_for_run($node, 'postgres', $run, seconds => 60);
	is($row->{status}, 'done', "$name: read") or diag($row->{error_message} // '');
	return $row;
}

# What a run did, but for what it left alone.
sub did
{
	my ($run, $steps) = @_;
	return sql("SELECT string_agg(concat_ws(' ', step || ':', entity_type, replace(label, chr(8594), 'to'), action, state), E'\n' ORDER BY ord, label) FROM integration_run_items WHERE run_id = $run->{id} AND state NOT IN ('held', 'skipped')"
		  . ($steps ? " AND step IN ($steps)" : ''));
}

sub reasons { my ($run, $label) = @_; return sql("SELECT string_agg(reason, E'\n' ORDER BY id) FROM integration_run_items WHERE run_id = $run->{id} AND label LIKE '$label%'") }

sub at_rest
{
	my ($name) = @_;
	$sim->reset_counters;
	my $row = publish_and_wait($node, 'postgres', $city);
	is($row->{to_update} + $row->{to_create}, 0, "$name: nothing is sent back") or diag(did($row));
	is($sim->stats->{writes}, 0, "$name: nor written");
	return;
}

sub owner { my ($app, $role) = @_; return sql("SELECT string_agg(c.display_name || CASE WHEN ac.is_primary THEN ' *' ELSE '' END, ', ' ORDER BY ac.is_primary DESC, c.display_name)
	FROM application_contacts AS ac JOIN contacts AS c ON c.id = ac.contact_id WHERE ac.application_id = '$app' AND ac.role_type = '$role'") }

# ---- contacts ------------------------------------------------------------------------------------

my $bob = 'eeee0000000000000000000000000002';
edit('sys_user', $bob, title => 'Application Manager');
my $run = read_back('first');
cmp_ok(sql("SELECT count(*) FROM integration_sync_map WHERE entity_type = 'contact'"), '>', 3, 'contacts are matched to users by e-mail');
like(reasons($run, 'Dana Kovacs'), qr/^2 users there have the e-mail dana.kovacs\@riverton.example/, 'unless two users have it');
is(sql("SELECT count(*) FROM servers"), 4, 'no server is taken over unasked');
at_rest('contacts');

edit('sys_user', $bob, title => 'Head of Applications', phone => '+1 555 0102', last_name => 'Okafor-Lind');
$run = read_back('a user was changed');
is(sql("SELECT display_name || ', ' || job_title || ', ' || phone FROM contacts WHERE email = 'bob.okafor\@riverton.example'"),
	'Bob Okafor-Lind, Head of Applications, +1 555 0102', 'the contact follows');
at_rest('a user was changed');

# ---- servers -------------------------------------------------------------------------------------

sql("SELECT itsm_set('$conn', 'intake', 'server, computer')");
my ($runs) = map { $_->{sys_id} } grep { $_->{name} eq 'Runs on::Runs' } @{ $sim->dump('cmdb_rel_type')->{cmdb_rel_type} };
my $web = added('cmdb_ci_linux_server', name => 'web01', os => 'Linux Red Hat', os_version => '9.4');
my $app = added('cmdb_ci_win_server', name => 'riv-app-01', os => 'Windows 2022');
my $twice = added('cmdb_ci_linux_server', name => 'riv-sql-01');
added('cmdb_ci_linux_server', name => 'RIV-SQL-01');
added('cmdb_ci_computer', name => 'desk1');
added('cmdb_rel_ci', parent => $id{$profile}, child => $web, type => $runs);
added('cmdb_rel_ci', parent => $web, child => $id{$sage}, type => $runs);

my ($preview) = split /\n/, sql("SELECT itsm_preview('$city', 'subscribe')");
is(wait_for_run($node, 'postgres', $preview)->{status}, 'planned', 'a preview is kept');
my $plan = join("\n", 'in servers: computer desk1 CREATE planned', 'in servers: server riv-app-01 UPDATE planned', 'in servers: server web01 CREATE planned',
	'in links: server_link Sage 300 - Finance - Prod to web01 CREATE planned');
is(did({ id => $preview }), $plan, 'and shows what it would do');
is(sql("SELECT count(*) FROM servers"), 4, 'it has done nothing');
sql("SELECT itsm_apply($preview)");
is(wait_for_run($node, 'postgres', $preview)->{status}, 'done', 'applied');
($plan = did({ id => $preview })) =~ s/done/planned/g;
is($plan, join("\n", 'in servers: computer desk1 CREATE planned', 'in servers: server riv-app-01 UPDATE planned', 'in servers: server web01 CREATE planned',
	'in links: server_link Sage 300 - Finance - Prod to web01 CREATE planned'), 'it does what it said');
is(sql("SELECT string_agg(s.name || ' ' || s.operating_system, ', ' ORDER BY s.name) FROM deployment_profile_servers AS l JOIN servers AS s ON s.id = l.server_id WHERE l.deployment_profile_id = '$profile' AND s.name ~ '^[a-z]'"),
	'web01 Linux Red Hat 9.4', 'the server is there, and linked');
is(sql("SELECT operating_system FROM servers WHERE name = 'RIV-APP-01'"), 'Windows 2022', 'one that was here is found whatever its case');
like(reasons({ id => $preview }, 'riv-sql-01'), qr/2 records there have this name/, 'one that is there twice is left alone');
is(sql("SELECT count(*) FROM integration_sync_log WHERE run_id = $preview AND status = 'success'"), 4, 'and the log says what was done');
is(did(read_back('once more')), '', 'a second run changes nothing');
at_rest('servers');
is(sql('SELECT count(*) FROM servers'), 6, 'nothing is published or retired of them');

edit('cmdb_ci_linux_server', $web, name => 'web02');
read_back('renamed there');
is(sql("SELECT count(*) FILTER (WHERE name = 'web02') || ' ' || count(*) FROM servers"), '1 6', 'a server is renamed here');
$sim->by_hand($jane, DELETE => "cmdb_ci_linux_server/$web");
sql("UPDATE integration_watermarks SET swept_at = now() - interval '2 days'");
$run = read_back('deleted there');
like(reasons($run, 'web02'), qr/not there any more: its row here stays/, 'one that is gone there is reported');
is(sql("SELECT is_active FROM servers WHERE name = 'web02'"), 't', 'and stays as it is');

# ---- owners --------------------------------------------------------------------------------------

my $former = owner($sage, 'business_owner');
like($former, qr/ \*/, 'there is an owner');
my $alan = added('sys_user', user_name => 'alan.t', email => 'Alan.T@riverton.example', first_name => 'Alan', last_name => 'Turing', title => 'Analyst', active => 'true');
my $before = sql('SELECT count(*) FROM contacts');
edit('cmdb_ci_business_app', $id{$sage}, owned_by => $alan);
($preview) = split /\n/, sql("SELECT itsm_preview('$city', 'subscribe')");
wait_for_run($node, 'postgres', $preview);
like(did({ id => $preview }), qr/^in contacts: contact Alan Turing CREATE planned\nin: application Sage 300.* UPDATE planned$/, 'a preview shows the contact and the role');
like(reasons({ id => $preview }, 'Alan'), qr/^named there as owned_by of Sage 300/, 'and why');
sql("SELECT itsm_apply($preview)");
is(wait_for_run($node, 'postgres', $preview)->{status}, 'done', 'applied');
is(sql("SELECT display_name || ', ' || job_title || ', ' || contact_category || ', ' || namespace_id FROM contacts WHERE email = 'Alan.T\@riverton.example'"),
	"Alan Turing, Analyst, internal, $city", 'who is named there as owner has become a contact');
(my $now = $former) =~ s/ \*//g;
like(owner($sage, 'business_owner'), qr/^Alan Turing \*, /, 'and is the owner');
is(sql("SELECT count(*) FROM application_contacts WHERE application_id = '$sage' AND role_type = 'business_owner' AND is_primary"), 1, 'the only primary one');
like(owner($sage, 'business_owner'), qr/\Q$now\E/, 'the former one has kept the row');
is(sql('SELECT count(*) FROM contacts'), $before + 1, 'one contact was made');
at_rest('an owner');
is(did(read_back('once more')), '', 'a second run changes nothing');

# somebody who is a contact already, and two who are nobody
edit('cmdb_ci_business_app', $id{$sage}, owned_by => 'eeee0000000000000000000000000003');
edit('cmdb_ci_service_auto', $id{$profile}, owned_by => $alan);
read_back('others');
like(owner($sage, 'business_owner'), qr/^Chen Wei \*, /, 'a contact is the owner');
is(sql("SELECT c.display_name FROM deployment_profile_contacts AS x JOIN contacts AS c ON c.id = x.contact_id WHERE x.deployment_profile_id = '$profile' AND x.role_type = 'operational_owner' AND x.is_primary"),
	'Alan Turing', 'and of the profile as well');
at_rest('others');
edit('cmdb_ci_business_app', $id{$sage}, owned_by => 'eeee0000000000000000000000000004');
$run = read_back('two of one e-mail');
like(reasons($run, 'Sage 300'), qr/owned_by: 2 users there have the e-mail dana.kovacs/, 'who cannot be told is not guessed');
like(owner($sage, 'business_owner'), qr/^Chen Wei \*, /, 'and nothing is changed');

# ---- groups --------------------------------------------------------------------------------------

my ($team, $group) = split /\|/, sql("SELECT t.name, r.external_id FROM teams AS t JOIN integration_external_records AS r ON r.name = t.name AND r.external_table = 'sys_user_group'
	WHERE t.namespace_id = '$city' AND t.is_active AND t.id <> coalesce((SELECT support_team_id FROM deployment_profiles WHERE id = '$profile'), gen_random_uuid()) ORDER BY t.name LIMIT 1");
edit('cmdb_ci_service_auto', $id{$profile}, support_group => $group);
read_back('a group');
is(sql("SELECT t.name FROM deployment_profiles AS p JOIN teams AS t ON t.id = p.support_team_id WHERE p.id = '$profile'"), $team, 'a group is the team of its name');
at_rest('a group');
my $teams = sql('SELECT count(*) FROM teams');
my $stranger = added('sys_user_group', name => 'Strangers');
edit('cmdb_ci_service_auto', $id{$profile}, support_group => $stranger);
$run = read_back('a group of no team');
like(reasons($run, 'Sage 300 - Finance'), qr/support_group: no team here is called "Strangers"/, 'one that has none is left alone');
is(sql('SELECT count(*) FROM teams'), $teams, 'and none is made');

# ---- everything dies in the middle ---------------------------------------------------------------

$sim->load({ cmdb_ci_linux_server => [ map { { name => sprintf('bulk%04d', $_), os => 'Linux' } } 1 .. 1500 ] });
sql("DELETE FROM integration_watermarks WHERE external_table = 'cmdb_ci_server'");
sql('CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$; CREATE TRIGGER slow BEFORE INSERT ON servers FOR EACH ROW EXECUTE FUNCTION slow()');
my ($bulk) = split /\n/, sql("SELECT itsm_subscribe('$city')");
my $kills = 0;
for my $at (100, 600, 1100)
{
	ok(poll_query($node, 'postgres', "SELECT count(*) >= $at FROM integration_run_items WHERE run_id = $bulk AND state = 'done'"), "$at are there");
	my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm planner%' LIMIT 1");
	next unless $pid;
	kill(9, $pid) and $kills++;
	ok(poll_query($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 't', seconds => 60), 'the cluster is back');
}
cmp_ok($kills, '>', 0, "killed $kills times");
is(wait_for_run($node, 'postgres', $bulk, seconds => 120)->{status}, 'done', 'the run goes on');
is(sql("SELECT count(*) || ' ' || count(DISTINCT name) FROM servers WHERE name LIKE 'bulk%'"), '1500 1500', 'nothing is lost, and nothing there twice');
is(sql("SELECT count(*) FROM integration_sync_log WHERE run_id = $bulk AND status = 'success' AND entity_type = 'server'"), 1500, 'and each is in the log once');

$sim->stop;
$node->stop;
done_testing();
