# Looks for the credentials that a connection was given in everything that the extension writes: tables, views, the
# server's log, pg_stat_activity while it works, and a dump; given as files and as literals, with success and with
# errors.  (What a client puts into a statement that fails is PostgreSQL's to log, so the literals are given to
# statements that succeed.)

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsm;
use PostgreSQL::Test::Utils;
use Test::More;

my $city = '11111111-1111-4111-8111-111111111111';
my @secrets = (CLIENT_SECRET, USER_PASSWORD, 'wrong-secret-71ab', 'api-key-55c0ffee');

sub leaks
{
	my ($text) = @_;
	return join ', ', grep { index($text, $_) >= 0 } @secrets;
}

for my $how (qw(file literal))
{
	my $node = new_cluster(name => "secrets_$how");
	my $sim  = start_simulator(options => [ '--api-key', 'api-key-55c0ffee:' . USER_NAME ]);
	load_platform($sim);
	load_getinsync($node, 'postgres');
	my $give = sub { my $s = shift; return $how eq 'file' ? sql_literal(secret_file($s)) : sql_literal($s) };
	my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $city, secrets => $how);
	publish_and_wait($node, 'postgres', $city);

	# wrong credentials, another kind of credentials, a password grant
	my $wrong = $node->safe_psql('postgres', "SELECT itsm_connect_servicenow('$city', '" . $sim->url . "', client_id => '" . CLIENT_ID
		  . "', client_secret => " . $give->('wrong-secret-71ab') . ", name => 'wrong')");
	$node->safe_psql('postgres', "SELECT * FROM itsm_test_connection('$wrong')");
	$node->safe_psql('postgres', "SELECT itsm_activate('$wrong')");
	my $key = $node->safe_psql('postgres', "SELECT itsm_connect_servicenow('$city', '" . $sim->url . "', api_key => "
		  . $give->('api-key-55c0ffee') . ", name => 'key')");
	$node->safe_psql('postgres', "SELECT * FROM itsm_test_connection('$key')");
	my $user = $node->safe_psql('postgres', "SELECT itsm_connect_servicenow('$city', '" . $sim->url . "', client_id => '" . CLIENT_ID
		  . "', client_secret => " . $give->(CLIENT_SECRET) . ", username => '" . USER_NAME . "', password => " . $give->(USER_PASSWORD) . ", name => 'user')");
	like($node->safe_psql('postgres', "SELECT string_agg(\"check\" || ' ' || ok::text, ',') FROM itsm_test_connection('$user')"),
		qr/token true/, "$how: the password grant works");
	my ($run) = grep { 1 } split /\n/, $node->safe_psql('postgres', "SELECT itsm_publish('$city', connection_id => '$wrong', confirm => true)");
	my $activity = '';
	poll_until(sub {
		$activity .= $node->safe_psql('postgres', "SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
		return $node->safe_psql('postgres', "SELECT paused_at IS NOT NULL FROM integration_connections WHERE id = '$wrong'") eq 't';
	});
	is($node->safe_psql('postgres', "SELECT paused_at IS NOT NULL FROM integration_connections WHERE id = '$wrong'"), 't',
		"$how: a connection whose secret is refused is paused");
	is(leaks($activity), '', "$how: nothing in pg_stat_activity");

	my @relations = split /\n/, $node->safe_psql('postgres',
		"SELECT c.oid::regclass FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		   JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pgsync_itsm' WHERE c.relkind IN ('r', 'v')");
	ok(@relations > 20, "$how: there are relations to look at");
	is(join(' ', grep { leaks($node->safe_psql('postgres', "SELECT t::text FROM $_ AS t")) } @relations), '', "$how: nothing in tables and views");
	is(leaks(slurp_file($node->logfile)), '', "$how: nothing in the server's log");
	my $dump = $node->basedir . '/dump.sql';
	$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], "$how: dumped");
	is(leaks(slurp_file($dump)), '', "$how: nothing in a dump");
	is(leaks(join ' ', map { $_->{body} // '' } @{ $sim->get('/__sim/requests?n=10000')->{requests} // [] }), '', "$how: nor in a payload");
	$sim->stop;
	$node->stop;
}
done_testing();
