# Feeds the extension what should not be: wrong addresses, secrets, states and data, and answers that are broken.  Each
# has to end in a clear error or a dead item with its reason, and everything else has to go through.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my $county = '22222222-2222-4222-8222-222222222222';
my $node = new_cluster(name => 'bad', databases => [qw(postgres latin)]);
my $sim  = start_simulator();
load_platform($sim);

sub refused
{
	my ($sql, $expected, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql);
	isnt($rc, 0, "$name: refused");
	like($err, $expected, "$name: says why");
}

# before anything is there
$node->safe_psql('postgres', 'CREATE EXTENSION pgsync_itsm');
refused("SELECT itsm_publish('$city')", qr/no source.*itsm_attach_getinsync/s, 'extension not attached');
refused('SELECT itsm_attach_getinsync()', qr/ERROR.*HINT/s, 'nothing to attach');
$node->safe_psql('postgres', 'DROP EXTENSION pgsync_itsm');
load_getinsync($node, 'postgres');

my $secret = sql_literal(secret_file(CLIENT_SECRET));
my $url = $sim->url;
refused("SELECT itsm_connect_servicenow('$city', 'https://example.org', 'a', $secret)", qr/allowed_hosts/, 'host not allowed');
refused("SELECT itsm_connect_servicenow('$city', 'http://acme.service-now.com', 'a', $secret)", qr/https/, 'plain http');
refused("SELECT itsm_connect_servicenow('$city', 'https://acme.service-now.com/nav_to.do', 'a', $secret)", qr/path/, 'an address with a path');
refused("SELECT itsm_connect_servicenow('$city', '', 'a', $secret)", qr/empty/, 'no address');
refused("SELECT itsm_connect_servicenow('99999999-9999-4999-8999-999999999999', '$url', 'a', $secret)", qr/namespace .* does not exist/, 'unknown namespace');
refused("SELECT itsm_connect_servicenow('$city', '$url', 'a')", qr/needs client_id and client_secret/, 'half the credentials');
refused("SELECT itsm_connect_servicenow('$city', '$url', 'a', 'file:/nowhere/at/all')", qr/nowhere/, 'a secret file that is not there');
refused("SELECT itsm_connect_servicenow('$city', '$url', 'a', $secret, write_api => 'magic')", qr/Allowed are: ire, instance/, 'unknown strategy');
refused("SELECT itsm_publish('$city')", qr/no active connection.*itsm_connect_servicenow/s, 'no connection');
my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city, activate => 0, prepare => 1, default_owner => undef);
refused("SELECT itsm_publish('$city')", qr/no active connection.*itsm_activate/s, 'inactive connection');
refused("SELECT itsm_set_mapping('$conn', 'application', 'comments', 'no_such_column')", qr/no_such_column/, 'a mapping to a column that does not exist');
refused("SELECT itsm_set_mapping('$conn', 'application', 'comments', 'upper(name')", qr/syntax error|unterminated|parenthes/i, 'a syntax error');
refused("SELECT itsm_set_mapping('$conn', 'application', 'model_id', 'name')", qr/model_id/, 'model_id');
refused('SELECT itsm_apply(4711)', qr/run 4711 does not exist/, 'unknown run');
refused("BEGIN; CALL itsm_wait(1); COMMIT;", qr/transaction block/, 'waiting in a transaction');
refused("SELECT itsm_set('$conn', 'max_concurrency', '1000')", qr/from 1 to 64/, 'a setting out of range');

# no default owner: applications without IT owner cannot be sent, everything else is
$node->safe_psql('postgres', "SELECT itsm_set('$conn', 'default_owner', NULL); SELECT itsm_activate('$conn')");
my $run = publish_and_wait($node, 'postgres', $city);
is($run->{status}, 'done', 'a portfolio with all its ugliness goes through');
my $reasons = $node->safe_psql('postgres', "SELECT string_agg(state || ' ' || entity_type || ': ' || reason, E'\\n') FROM integration_run_items WHERE run_id = $run->{id} AND state IN ('dead', 'held')");
like($reasons, qr/dead application: .*mandatory there and empty here: it_application_owner/, 'no IT owner, none by default');
like($reasons, qr/dead application: .*name has 300 characters/, 'a name longer than the column');
like($reasons, qr/held deployment_profile: another deployment profile here has the name/, 'two profiles with one name');
like($node->safe_psql('postgres', "SELECT string_agg(warnings::text, ' ') FROM integration_run_items WHERE run_id = $run->{id}"),
	qr/2 users there have/, 'an e-mail that two users have');

# an empty portfolio
$node->safe_psql('postgres', "DELETE FROM applications a USING workspaces w WHERE w.id = a.workspace_id AND w.namespace_id = '$county'");
$node->safe_psql('postgres', "DELETE FROM deployment_profiles p USING workspaces w WHERE w.id = p.workspace_id AND w.namespace_id = '$county'");
my $empty = connect_and_activate($node, 'postgres', $sim, namespace => $county, prepare => 0);
$run = publish_and_wait($node, 'postgres', $county);
is($run->{status}, 'done', 'an empty portfolio is published');

# broken answers: retried, and nothing is lost
for my $fault (qw(nul bad_utf8 garbage_body truncated_body html))
{
	$node->safe_psql('postgres', "UPDATE applications SET short_description = '$fault' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000001'");
	$sim->post('/__sim/faults', { endpoint => 'identifyreconcile', count => 1, fault => $fault });
	$run = publish_and_wait($node, 'postgres', $city);
	is($run->{status}, 'done', "$fault: the run ends");
	my ($app) = grep { ($_->{correlation_id} // '') eq 'aaaaaaaa-0001-4000-8000-000000000001' } @{ $sim->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} };
	is($app->{short_description}, $fault, "$fault: the record arrived");
}

# a token that expires in mid-run
$node->safe_psql('postgres', "UPDATE applications SET short_description = 'expired token' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000001'");
$sim->post('/__sim/faults', { endpoint => 'identifyreconcile', count => 1, fault => 'token_expiry' });
$run = publish_and_wait($node, 'postgres', $city);
is($run->{status}, 'done', 'a token that expires is replaced');

# a wrong secret pauses, says so, and goes on when it is repaired
my $wrong = $node->safe_psql('postgres', "SELECT itsm_connect_servicenow('$city', '$url', '" . CLIENT_ID . "', "
	  . sql_literal(secret_file('wrong')) . ", name => 'wrong')");
like($node->safe_psql('postgres', "SELECT hint FROM itsm_test_connection('$wrong') WHERE \"check\" = 'token'"),
	qr/client\.credential/i, 'the test of a wrong secret names the usual reasons');
$node->safe_psql('postgres', "SELECT itsm_activate('$wrong')");
my ($id) = $node->safe_psql('postgres', "SELECT itsm_publish('$city', connection_id => '$wrong')") =~ /(\d+)/;
my ($rc, $out, $err) = $node->psql('postgres', "CALL itsm_wait($id)");
like($err, qr/is paused.*itsm_activate/s, 'waiting on it says that it is paused');

# a database in LATIN1
$node->safe_psql('postgres', "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
load_getinsync($node, 'latin', generate => { applications => 5 });
my $sim2 = start_simulator();
load_platform($sim2, $node, 'latin');
my $ns = namespace_of($node, 'latin');
$node->safe_psql('latin', "UPDATE applications SET name = E'Stra\\337enbau' WHERE id = (SELECT min(id::text)::uuid FROM applications)");
connect_and_activate($node, 'latin', $sim2, namespace => $ns);
$run = publish_and_wait($node, 'latin', $ns);
is($run->{status}, 'done', 'LATIN1: published');
is($run->{dead}, 0, 'LATIN1: nothing dead');
is(scalar(grep { $_->{name} eq "Stra\x{df}enbau" } @{ $sim2->dump('cmdb_ci_business_app')->{cmdb_ci_business_app} }), 1, 'LATIN1: the name arrives in UTF-8');
is(publish_and_wait($node, 'latin', $ns)->{to_update}, 0, 'LATIN1: and is unchanged afterwards');

$sim->stop;
$sim2->stop;
$node->stop;
done_testing();
