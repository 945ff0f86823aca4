# PgsyncItsm.pm: clusters, simulators and publishes for TAP tests.
#
# A test of a publish reads:
#
#     my $node = new_cluster();
#     my $sim  = start_simulator();
#     load_platform($sim);
#     load_getinsync($node, 'postgres');
#     my $ns   = namespace_of($node, 'postgres');
#     my $conn = connect_and_activate($node, 'postgres', $sim, namespace => $ns);
#     my $run  = publish_and_wait($node, 'postgres', $ns);
#
# Nothing here sleeps longer than it has to, and everything that waits has a deadline.

package PgsyncItsm;

use strict;
use warnings;
use Carp qw(croak);
use Encode ();
use Exporter 'import';
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();
use MIME::Base64 ();
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(usleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(new_cluster start_simulator load_getinsync load_platform namespace_of connect_and_activate
  publish_and_wait wait_for_run run_row publish_runs poll_until poll_query secret_file sql_literal top_dir
  worker_pid wait_for_worker CLIENT_ID CLIENT_SECRET USER_NAME USER_PASSWORD);

# What the simulator is started with and the connection is given, unless a test says otherwise.  Tests that
# look for leaked secrets look for these.
use constant CLIENT_ID     => 'tap-client-5d1f';
use constant CLIENT_SECRET => 'tap-client-secret-9b3e71c2';
use constant USER_NAME     => 'tap.integration';
use constant USER_PASSWORD => 'tap-password-4f8a60d5';

my $deadline = $PostgreSQL::Test::Utils::timeout_default || 180;
my $secrets_dir;
my @simulators;

# The directory that holds test/, sql/ and expected/.
sub top_dir
{
	return $ENV{PGSYNC_ITSM_TOP} || '.';
}

sub sql_literal
{
	my ($text) = @_;
	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	return $text =~ /\\/ ? " E'" . ($text =~ s/\\/\\\\/gr) . "'" : "'$text'";
}

# new_cluster(%options): a running node that preloads the library.
#   name        of the node, default a fresh one
#   databases   list that workers serve, default 'postgres'; '' for none
#   preload     0: without the library
#   slow_poll   seconds, default what the library has
#   conf        text appended to postgresql.conf last
#   start       0: initialised, not started
#   allows_streaming, has_archiving   as in PostgreSQL::Test::Cluster's init
my $nodes = 0;

sub new_cluster
{
	my (%opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($opt{name} // 'itsm' . ++$nodes);
	my %init = (extra => [ '--locale=C.UTF-8', '-E', 'UTF8' ]);
	for my $name (qw(allows_streaming has_archiving))
	{
		$init{$name} = $opt{$name} if exists $opt{$name};
	}
	$node->init(%init);

	my $databases = $opt{databases} // 'postgres';
	$databases = join(',', @$databases) if ref $databases;
	my $conf = "log_statement = none\nrestart_after_crash = on\nmax_worker_processes = 24\n"
	  . "max_connections = 40\nshared_buffers = 32MB\nfsync = off\n";
	if ($opt{preload} // 1)
	{
		my $key = secrets_dir() . '/key.' . $node->name;
		$conf .= "shared_preload_libraries = 'pgsync_itsm'\n"
		  . "pgsync_itsm.databases = '$databases'\n"
		  . "pgsync_itsm.allowed_hosts = '*.service-now.com,127.0.0.1'\n"
		  . "pgsync_itsm.allow_insecure_hosts = '127.0.0.1'\n"
		  . "pgsync_itsm.key_file = '$key'\n";
		$conf .= "pgsync_itsm.slow_poll = '$opt{slow_poll}s'\n" if defined $opt{slow_poll};
	}
	$node->append_conf('postgresql.conf', $conf . ($opt{conf} // ''));
	$node->start if $opt{start} // 1;
	return $node;
}

sub secrets_dir
{
	return $secrets_dir //= PostgreSQL::Test::Utils::tempdir('secrets');
}

# secret_file($text): a file that holds the secret, as the argument 'file:/path' that the API takes.
my $secrets = 0;

sub secret_file
{
	my ($secret) = @_;
	my $path = secrets_dir() . '/secret.' . ++$secrets;
	open(my $out, '>', $path) or die "$path: $!";
	chmod 0600, $path;
	print $out $secret, "\n";
	close $out or die "$path: $!";
	return "file:$path";
}

# poll_until(sub { ... }, what => 'text', seconds => n): the first true value of the sub; undef past the deadline.
sub poll_until
{
	my ($condition, %opt) = @_;
	my $end = time() + ($opt{seconds} // $deadline);
	for (;;)
	{
		my $value = $condition->();
		return $value if $value;
		last if time() >= $end;
		usleep(50_000);
	}
	diag("gave up waiting for $opt{what}") if $opt{what};
	return undef;
}

# poll_query($node, $db, $sql, $expected = 't', %opt): 1 when the query has given that; 0 past the deadline.
sub poll_query
{
	my ($node, $db, $sql, $expected, %opt) = @_;
	$expected //= 't';
	my ($last, $error) = ('', '');
	my $done = poll_until(
		sub {
			$node->psql($db, $sql, stdout => \$last, stderr => \$error);
			return defined $last && $last eq $expected;
		},
		seconds => $opt{seconds});
	diag("gave up waiting for\n$sql\nexpected: $expected\nlast: $last\n$error") unless $done;
	return $done ? 1 : 0;
}

# load_getinsync($node, $db, %what): sample schema and data, the extension, itsm_attach_getinsync(), the scope.
#   generate => { applications => n }  a generated portfolio, arguments of getinsync_generate(), instead of
#                                      the hand-made one
#   schema   => 'itsm'                 schema of the extension
#   attach   => 0                      leave the extension out
sub load_getinsync
{
	my ($node, $db, %opt) = @_;
	my $dir = top_dir() . '/test/getinsync';
	my $run = sub {
		my ($out, $err) = ('', '');
		IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', "$dir/$_[0]" ],
			'>', \$out, '2>', \$err)
		  or croak "cannot load $_[0]: $err";
	};
	my $api = $opt{schema} ? "$opt{schema}." : '';
	$run->('schema.sql');
	$run->('generator.sql');
	my $namespace;
	if ($opt{generate})
	{
		my $args = join(', ', map { "$_ => $opt{generate}{$_}" } sort keys %{ $opt{generate} });
		$namespace = $node->safe_psql($db, "SELECT getinsync_generate($args)");
	}
	else
	{
		$run->('sample.sql');
	}
	return if exists $opt{attach} && !$opt{attach};

	$node->safe_psql($db, "CREATE SCHEMA IF NOT EXISTS $opt{schema}") if $opt{schema};
	$node->safe_psql($db, 'CREATE EXTENSION IF NOT EXISTS pgsync_itsm' . ($opt{schema} ? " SCHEMA $opt{schema}" : ''));
	$node->safe_psql($db, "SELECT ${api}itsm_attach_getinsync()");
	if ($opt{generate})
	{
		$node->safe_psql($db, "SELECT ${api}itsm_set_scope('$namespace', 'application_service')");
	}
	else
	{
		$run->('sample_scope.sql');
	}
	return;
}

# load_platform($sim): the users, groups and companies that the hand-made portfolio refers to, and the rows
# that get in its way; load_platform($sim, $node, $db): those of a generated portfolio.
sub load_platform
{
	my ($sim, $node, $db) = @_;
	return $sim->load_file(top_dir() . '/test/getinsync/platform.json') unless $node;
	my $json = $node->safe_psql($db, 'SELECT getinsync_generate_platform()');
	return $sim->load(JSON::PP::decode_json(Encode::encode_utf8($json)));
}

# The namespace with the most applications: the one that a test is about.
sub namespace_of
{
	my ($node, $db) = @_;
	return $node->safe_psql($db,
		"SELECT w.namespace_id FROM applications a JOIN workspaces w ON w.id = a.workspace_id "
		  . "GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1");
}

# connect_and_activate($node, $db, $sim, %settings): connection id of an active connection.
#   namespace  default namespace_of()
#   secrets    'file' (default) or 'literal'
#   activate   0: leave it inactive;  prepare 0: leave the data source unregistered
#   args       { argument of itsm_connect_servicenow => SQL expression }
#   settings   { name => value } of the connection
# Any other name is taken as a setting, too.
sub connect_and_activate
{
	my ($node, $db, $sim, %opt) = @_;
	my $namespace = delete $opt{namespace} // namespace_of($node, $db);
	my $literal = (delete $opt{secrets} // 'file') eq 'literal';
	my $prepare  = delete $opt{prepare}  // 1;
	my $activate = delete $opt{activate} // 1;
	my $args     = { %{ delete $opt{args} // {} } };
	my %settings = (%{ delete $opt{settings} // {} }, %opt);
	$args->{settings} = sql_literal(JSON::PP->new->canonical->encode(\%settings)) . '::jsonb' if %settings;
	my %all = (
		namespace_id  => sql_literal($namespace) . '::uuid',
		instance_url  => sql_literal($sim->url),
		client_id     => sql_literal(CLIENT_ID),
		client_secret => sql_literal($literal ? CLIENT_SECRET : secret_file(CLIENT_SECRET)),
		default_owner => sql_literal('admin@example.com'),
		%$args);
	my $list = join(', ', map { "$_ => $all{$_}" } grep { defined $all{$_} } sort keys %all);
	my $id = $node->safe_psql($db, "SELECT itsm_connect_servicenow($list)");
	$node->safe_psql($db, "SELECT itsm_prepare_instance('$id')") if $prepare;
	$node->safe_psql($db, "SELECT itsm_activate('$id')")         if $activate;
	return $id;
}

# publish_runs($node, $db, $namespace, %opt): ids of the runs that itsm_publish() began.
#   confirm => 0 leaves them waiting for approval;  args => 'further => arguments'
sub publish_runs
{
	my ($node, $db, $namespace, %opt) = @_;
	my $args = sql_literal($namespace) . '::uuid, confirm => ' . (($opt{confirm} // 1) ? 'true' : 'false');
	$args .= ", $opt{args}" if $opt{args};
	return split /\n/, $node->safe_psql($db, "SELECT itsm_publish($args)");
}

# wait_for_run($node, $db, $run, %opt): the run's row as a hash, when it has ended or needs approval.
#   seconds => n;  states => [...] other states to wait for
sub wait_for_run
{
	my ($node, $db, $run, %opt) = @_;
	my %end = map { $_ => 1 } @{ $opt{states} // [qw(done failed cancelled needs_approval planned)] };
	my $row;
	my $there = poll_until(sub { $row = run_row($node, $db, $run); return $row && $end{ $row->{status} } },
		seconds => $opt{seconds});
	if (!$there)
	{
		diag("run $run does not end: " . JSON::PP->new->canonical->pretty->encode($row // {}));
		diag($node->safe_psql($db,
				"SELECT step, entity_type, action, state, count(*), min(reason) FROM integration_run_items "
			  . "WHERE run_id = $run GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"));
		croak "run $run does not end";
	}
	return $row;
}

sub run_row
{
	my ($node, $db, $run) = @_;
	my $json = $node->safe_psql($db, "SELECT to_json(r) FROM integration_runs r WHERE id = $run");
	return $json eq '' ? undef : JSON::PP::decode_json($json);
}

# publish_and_wait($node, $db, $namespace, %opt): the last run's row; see publish_runs and wait_for_run.
sub publish_and_wait
{
	my ($node, $db, $namespace, %opt) = @_;
	my @rows = map { wait_for_run($node, $db, $_, %opt) } publish_runs($node, $db, $namespace, %opt);
	croak "itsm_publish began no run" unless @rows;
	return $rows[-1];
}

# The worker of a database: its process id, '' if there is none.
sub worker_pid
{
	my ($node, $db) = @_;
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pgsync_itsm worker%' AND datname = "
		  . sql_literal($db));
}

sub wait_for_worker
{
	my ($node, $db, %opt) = @_;
	return poll_until(sub { worker_pid($node, $db) }, what => "a worker in $db", %opt);
}

# start_simulator(%options): a simulator in a process of its own, on a free port.
#   roles     of the integration user, comma list
#   client_credentials   0: leave that grant off, as a fresh instance has it
#   data      [ directories of further data ]
#   options   [ further command-line options ]
# Methods: url, port, pid, log, get(path), post(path, hash), stats, dump(tables), load(hash), load_file(path),
# reset_counters, stop.
sub start_simulator
{
	return PgsyncItsm::Simulator->start(@_);
}

package PgsyncItsm::Simulator;

use strict;
use warnings;
use Carp qw(croak);
use JSON::PP ();
use Test::More;
use Time::HiRes qw(usleep time);

use constant ROLES => 'itil,contract_manager,asset,sn_cmdb_admin';

sub start
{
	my ($class, %opt) = @_;
	my $top = PgsyncItsm::top_dir();
	my $dir = PostgreSQL::Test::Utils::tempdir('simulator');
	my $program = "$top/test/simulator/itsm-simulator";
	my @command = (
		$program, '--port', 0, '--port-file', "$dir/port", '--parent-pid', $$,
		'--user', PgsyncItsm::USER_NAME() . ':' . PgsyncItsm::USER_PASSWORD() . ':' . ($opt{roles} // ROLES),
		'--client', join(':', PgsyncItsm::CLIENT_ID(), PgsyncItsm::CLIENT_SECRET(), PgsyncItsm::USER_NAME()));
	push @command, '--client-credentials' if $opt{client_credentials} // 1;
	push @command, '--data', $_ for @{ $opt{data} // [] };
	push @command, @{ $opt{options} // [] };

	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDIN,  '<', '/dev/null');
		open(STDOUT, '>', "$dir/log");
		open(STDERR, '>&', \*STDOUT);
		exec(@command) or POSIX::_exit(127);
	}
	my $self = bless {
		pid => $pid, dir => $dir, host => '127.0.0.1',
		http => HTTP::Tiny->new(timeout => 30, proxy => undef, http_proxy => undef) }, $class;
	push @simulators, $self;
	PgsyncItsm::poll_until(
		sub { -s "$dir/port" || waitpid($pid, POSIX::WNOHANG()) == $pid }, seconds => 30);
	if (!-s "$dir/port")
	{
		BAIL_OUT('the simulator does not start: ' . PostgreSQL::Test::Utils::slurp_file("$dir/log"));
	}
	($self->{port}) = PostgreSQL::Test::Utils::slurp_file("$dir/port") =~ /(\d+)/;
	$self->{url} = "http://127.0.0.1:$self->{port}";
	return $self;
}

sub url  { return $_[0]{url} }
sub port { return $_[0]{port} }
sub pid  { return $_[0]{pid} }
sub log  { return PostgreSQL::Test::Utils::slurp_file("$_[0]{dir}/log") }

# What a control request answers, decoded; croaks unless the simulator agrees.
sub _answer
{
	my ($self, $what, $response) = @_;
	croak "$what: $response->{status} $response->{reason} $response->{content}" unless $response->{success};
	return undef if ($response->{content} // '') eq '';
	return JSON::PP->new->utf8->allow_nonref->decode($response->{content});
}

sub get
{
	my ($self, $path) = @_;
	return $self->_answer("GET $path", $self->{http}->get($self->{url} . $path));
}

sub post
{
	my ($self, $path, $body) = @_;
	return $self->_answer("POST $path",
		$self->{http}->post($self->{url} . $path,
			{ headers => { 'content-type' => 'application/json' }, content => JSON::PP::encode_json($body // {}) }));
}

sub stats { return $_[0]->get('/__sim/stats') }

# Counters and request log to zero, data kept.
sub reset_counters { return $_[0]->post('/__sim/counters') }

# dump('cmdb_ci_business_app', ...): { table => [ rows ] }, straight from the simulator's store; rows of
# exactly that table.
sub dump
{
	my ($self, @tables) = @_;
	return $self->get('/__sim/dump?tables=' . join(',', @tables));
}

# by_hand('name:password', PATCH => 'cmdb_ci_business_app/...', { field => value }): somebody works there, through the Table
# API and with the rights that account has; the answer's result.
sub by_hand
{
	my ($self, $account, $method, $path, $body) = @_;
	my $answer = $self->{http}->request($method, "$self->{url}/api/now/table/$path",
		{ headers => { authorization => 'Basic ' . MIME::Base64::encode_base64($account, ''), accept => 'application/json', 'content-type' => 'application/json' },
			content => $body ? JSON::PP->new->utf8->encode($body) : '' });
	Carp::croak("$method $path: $answer->{status} $answer->{content}") unless $answer->{success};
	return $answer->{content} ? JSON::PP->new->utf8->decode($answer->{content})->{result} : undef;
}

# load({ table => [ rows ] }) and load_file('platform.json')
sub load { return $_[0]->post('/__sim/load', $_[1]) }

sub load_file
{
	my ($self, $path) = @_;
	my $response = $self->{http}->post("$self->{url}/__sim/load",
		{ headers => { 'content-type' => 'application/json' },
			content => PostgreSQL::Test::Utils::slurp_file($path) });
	return $self->_answer("load $path", $response);
}

# Ends the simulator, as a power failure would: a test that wants it back starts another.
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'TERM', $pid;
	my $gone = PgsyncItsm::poll_until(sub { waitpid($pid, POSIX::WNOHANG()) != 0 }, seconds => 5);
	if (!$gone)
	{
		kill 'KILL', $pid;
		waitpid($pid, 0);
	}
	return;
}

END
{
	my $status = $?;
	$_->stop for @simulators;
	$? = $status;
}

1;
