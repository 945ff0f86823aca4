# PgsyncItsmCompare.pm: what the simulated platform holds against what the portfolio wants there, set against set.
#
#     my $before = remember($sim);                       before anything is published
#     ...
#     both_sides_equal($node, 'postgres', $ns, $sim, $before);
#
# What is wanted comes from the portfolio's own tables (applications, deployment_profiles, ...) by SQL that is
# written here and nowhere else: not from the extension's sources, items or map.  What is there comes straight from
# the simulator's store.  Everything there that was not there before has to be wanted, exactly once, with the values
# that the portfolio has; the map has to say the same, no more and no less.

package PgsyncItsmCompare;

use strict;
use warnings;
use Encode ();
use Exporter 'import';
use JSON::PP ();
use Test::More;
use PgsyncItsm;

our @EXPORT = qw(remember both_sides_equal wanted_there found_there put_aside);

my @ci_tables = qw(cmdb_ci_business_app cmdb_ci_service_auto cmdb_ci_service_technical service_offering cmdb_ci_spkg);
my @tables = (@ci_tables, qw(cmdb_software_product_model ast_contract core_company cmdb_rel_ci contract_rel_ci));
my @resolved = qw(sys_user sys_user_group cmdb_rel_type sys_object_source);
my $json = JSON::PP->new->canonical;

my %class_of_scope = (
	application_service        => 'cmdb_ci_service_auto',
	technical_service          => 'cmdb_ci_service_technical',
	technical_service_offering => 'service_offering');

my %criticality = (4 => '1 - most critical', 3 => '2 - somewhat critical', 2 => '3 - less critical', 1 => '4 - not critical');

# sys_ids of everything that is there now, which is nothing of ours.
sub remember
{
	my ($sim) = @_;
	my $all = $sim->dump(@tables);
	return { map { my $t = $_; ($t => { map { $_->{sys_id} => 1 } @{ $all->{$t} } }) } @tables };
}

sub rows
{
	my ($node, $db, $sql) = @_;
	my $text = $node->safe_psql($db, "SELECT coalesce(json_agg(q), '[]') FROM ($sql) AS q");
	return @{ JSON::PP::decode_json(Encode::is_utf8($text) ? Encode::encode_utf8($text) : $text) };
}

# What a person has to decide, or a rule leaves out, in a run: { entity_type => { id => 1 } }.  That the platform
# refused something is no reason to be in here, unless dead => 1 asks for what is dead, too; then also
# relationship and cover.  A company that is dead is nobody's vendor by itself: it is not found by its name there.
sub put_aside
{
	my ($node, $db, $run, %opt) = @_;
	my %aside;
	my $dead = $opt{dead} ? "OR state = 'dead'" : '';
	my $key  = "CASE %1\$s_type WHEN 'contract' THEN regexp_replace(%2\$s, '^contract/', '') ELSE %1\$s_id::text END AS %3\$s";
	for my $i (rows($node, $db,
			"SELECT entity_type, parent_id, parent_type, child_id, child_type, rel_type, native_key, " . sprintf($key, 'entity', 'native_key', 'key')
	  . " FROM integration_run_items WHERE run_id = $run AND (action IN ('MISMATCH', 'SKIP', 'ERROR') OR state = 'skipped' $dead)"))
	{
		$aside{ $i->{entity_type} }{ $i->{key} } = 1 unless defined $i->{parent_id};
		$aside{relationship}{"$i->{parent_type} $i->{parent_id} > $i->{child_type} $i->{child_id} : $i->{rel_type}"} = 1
		  if $opt{dead} && defined $i->{parent_id} && defined $i->{rel_type};
		$aside{cover}{ $i->{child_id} } = 1 if $opt{dead} && $i->{entity_type} eq 'covers';
	}
	return \%aside;
}

# A value as a column of so many characters keeps it.
sub cut
{
	my ($text, $length) = @_;
	return substr($text, 0, $length);
}

# An owner there: the one active user with that e-mail address, or nobody.
sub user_of
{
	my ($email, $users) = @_;
	return '' unless defined $email && $email ne '';
	my @found = grep { lc($_->{email} // '') eq lc $email && $_->{active} ne 'false' } @$users;
	return @found == 1 ? $found[0]{sys_id} : '';
}

sub oldest_named
{
	my ($name, $records) = @_;
	return '' unless defined $name && $name ne '';
	# of two of one name the older one
	my ($found) = sort { ($a->{sys_created_on} // '') cmp($b->{sys_created_on} // '') } grep { lc($_->{name} // '') eq lc $name } @$records;
	return $found ? $found->{sys_id} : '';
}

# SQL that finds the e-mail address of a role; the primary one goes first.
sub owner_sql
{
	my ($table, $column, $role, $id) = @_;
	return "(SELECT btrim(c.email) FROM $table x JOIN contacts c ON c.id = x.contact_id
	          WHERE x.$column = $id AND x.role_type = '$role' AND c.is_active IS NOT FALSE AND btrim(c.email) <> ''
	          ORDER BY x.is_primary DESC NULLS LAST, c.email, c.id LIMIT 1)";
}

sub criticality_sql
{
	my ($application) = @_;
	return "(SELECT CASE WHEN max(criticality) >= 80 THEN 4 WHEN max(criticality) >= 60 THEN 3 WHEN max(criticality) >= 40 THEN 2
	                     WHEN max(criticality) >= 20 THEN 1 END FROM portfolio_assignments WHERE application_id = $application)";
}

sub wanted_applications
{
	my ($node, $db, $ns, $all, $want) = @_;
	for my $a (rows($node, $db,
		"SELECT a.id, a.name, left(coalesce(a.short_description, ''), 1000) AS short_description, a.operational_status,
		        left(coalesce(a.description, ''), 4000) AS comments, "
		  . owner_sql('application_contacts', 'application_id', 'business_owner', 'a.id') . " AS business_owner, "
		  . owner_sql('application_contacts', 'application_id', 'technical_owner', 'a.id') . " AS technical_owner, "
		  . criticality_sql('a.id') . " AS criticality, pp.team, pp.vendor
		   FROM applications a JOIN workspaces w ON w.id = a.workspace_id
		   LEFT JOIN LATERAL (SELECT t.name AS team, CASE WHEN o.is_internal IS NOT TRUE THEN o.name END AS vendor FROM deployment_profiles p
		                        LEFT JOIN teams t ON t.id = p.managing_team_id AND t.is_active IS NOT FALSE
		                        LEFT JOIN organizations o ON o.id = p.vendor_org_id
		                       WHERE p.application_id = a.id AND p.is_primary AND p.dp_type <> 'cost_bundle'
		                       ORDER BY p.created_at, p.id LIMIT 1) AS pp ON true
		  WHERE w.namespace_id = '$ns' AND a.management_classification IN ('apm', 'alm')"))
	{
		$want->{application}{ $a->{id} } = {
			table => 'cmdb_ci_business_app', correlation_id => $a->{id}, name => $a->{name},
			short_description => $a->{short_description}, comments => $a->{comments},
			operational_status => { operational => 1, pipeline => 7, retired => 6 }->{ $a->{operational_status} },
			business_criticality => $criticality{ $a->{criticality} // 0 } // '',
			owned_by   => user_of($a->{business_owner}, $all->{sys_user}),
			managed_by => user_of($a->{technical_owner}, $all->{sys_user}),
			managed_by_group => oldest_named($a->{team}, $all->{sys_user_group}),
			vendor => oldest_named($a->{vendor}, $all->{core_company}) };
	}
	return;
}

sub wanted_profiles
{
	my ($node, $db, $ns, $all, $want) = @_;
	# the instance's own list has three; what is none of them is left out
	my %environment = (PROD => 'Production', DEV => 'Development', SBX => 'Development', TEST => 'Test', UAT => 'Test');
	for my $p (rows($node, $db,
		"SELECT p.id, p.name, a.name AS application, p.sn_sync_scope AS scope, coalesce(p.version, '') AS version, p.environment,
		        CASE WHEN a.operational_status IN ('retired', 'pipeline') THEN a.operational_status ELSE p.operational_status END AS status, "
		  . owner_sql('deployment_profile_contacts', 'deployment_profile_id', 'operational_owner', 'p.id') . " AS owner, "
		  . criticality_sql('p.application_id') . " AS criticality, tm.name AS managing, ts.name AS supporting, tc.name AS changing
		   FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id
		   LEFT JOIN applications a ON a.id = p.application_id
		   LEFT JOIN teams tm ON tm.id = p.managing_team_id AND tm.is_active IS NOT FALSE
		   LEFT JOIN teams ts ON ts.id = p.support_team_id AND ts.is_active IS NOT FALSE
		   LEFT JOIN teams tc ON tc.id = p.change_team_id AND tc.is_active IS NOT FALSE
		  WHERE w.namespace_id = '$ns' AND p.sn_sync_scope <> 'none' AND p.dp_type <> 'cost_bundle'"))
	{
		my $name = $p->{name};
		if (defined $p->{application})
		{
			(my $short = $p->{application}) =~ s/^ +| +$//g;
			$name = "$short - $name" if index(lc $name, lc $short) < 0;
		}
		my %values = (
			table => $class_of_scope{ $p->{scope} }, correlation_id => $p->{id}, name => $name, version => cut($p->{version}, 40),
			operational_status => { operational => 1, 'non-operational' => 2, pipeline => 7, retired => 6 }->{ $p->{status} },
			owned_by         => user_of($p->{owner}, $all->{sys_user}),
			managed_by_group => oldest_named($p->{managing}, $all->{sys_user_group}),
			support_group    => oldest_named($p->{supporting}, $all->{sys_user_group}),
			change_control   => oldest_named($p->{changing}, $all->{sys_user_group}));
		# left empty, a column there may have a default
		$values{busines_criticality} = $criticality{ $p->{criticality} } if $p->{criticality};
		$values{environment} = $environment{ $p->{environment} } if defined $p->{environment} && $environment{ $p->{environment} };
		$want->{deployment_profile}{ $p->{id} } = \%values;
	}
	return;
}

sub wanted_services
{
	my ($node, $db, $ns, $all, $want) = @_;
	for my $s (rows($node, $db,
		"SELECT s.id, s.name, s.description, s.lifecycle_state, CASE WHEN o.is_internal IS NOT TRUE THEN o.name END AS vendor,
		        coalesce(s.sn_sync_scope, CASE WHEN s.is_internal_only THEN 'none' ELSE 'technical_service_offering' END) AS scope
		   FROM it_services s LEFT JOIN organizations o ON o.id = s.vendor_org_id WHERE s.namespace_id = '$ns'"))
	{
		next if $s->{scope} eq 'none';
		my $state = lc($s->{lifecycle_state} // '');
		$want->{it_service}{ $s->{id} } = {
			table => $class_of_scope{ $s->{scope} }, correlation_id => $s->{id}, name => $s->{name},
			operational_status => $state =~ /^(planned|pipeline|proposed)$/ ? 7 : $state =~ /^(retired|decommissioned|end of life)$/ ? 6 : 1,
			vendor => oldest_named($s->{vendor}, $all->{core_company}),
			($s->{scope} eq 'technical_service' ? 'short_description' : 'description') => $s->{description} // '' };
	}
	return;
}

# A product is two records: the model, which has no key of ours, and the package, which has.
sub wanted_products
{
	my ($node, $db, $ns, $all, $want) = @_;
	for my $s (rows($node, $db,
		"SELECT s.id, s.name, s.version, CASE WHEN o.is_internal IS NOT TRUE THEN o.name END AS maker
		   FROM software_products s LEFT JOIN organizations o ON o.id = s.manufacturer_org_id
		  WHERE s.namespace_id = '$ns' AND EXISTS (SELECT FROM deployment_profile_software_products l WHERE l.software_product_id = s.id)"))
	{
		my ($name, $version) = ($s->{name}, $s->{version} // '');
		my $maker = oldest_named($s->{maker}, $all->{core_company});
		$want->{software_product}{ $s->{id} } =
		  { table => 'cmdb_software_product_model', name => $name, version => $version, manufacturer => $maker };
		$want->{software_package}{ $s->{id} } = {
			table => 'cmdb_ci_spkg', correlation_id => $s->{id},
			name => $version =~ /^ *$/ || index($name, $version) >= 0 ? $name : "$name $version",
			version => $version eq '' ? 'unspecified' : $version, manufacturer => $maker, operational_status => 1 };
	}
	return;
}

# Vendors and manufacturers that something names, that are not internal and were not there before.
sub wanted_companies
{
	my ($node, $db, $ns, $before, $all, $want) = @_;
	my %old = map { lc $_->{name} => 1 } grep { $before->{core_company}{ $_->{sys_id} } } @{ $all->{core_company} };
	for my $o (rows($node, $db,
		"SELECT o.id, o.name FROM organizations o WHERE o.namespace_id = '$ns' AND o.is_internal IS FALSE AND (
		    EXISTS (SELECT FROM deployment_profiles x WHERE x.vendor_org_id = o.id AND x.dp_type <> 'cost_bundle')
		 OR EXISTS (SELECT FROM it_services x WHERE x.vendor_org_id = o.id)
		 OR EXISTS (SELECT FROM product_contracts x WHERE x.vendor_org_id = o.id)
		 OR EXISTS (SELECT FROM deployment_profile_software_products x WHERE x.vendor_org_id = o.id)
		 OR EXISTS (SELECT FROM software_products x WHERE x.manufacturer_org_id = o.id))"))
	{
		$want->{company}{ $o->{id} } = { table => 'core_company', name => $o->{name} } unless $old{ lc $o->{name} };
	}
	return;
}

# Contracts come in four shapes; they are one where vendor and reference are the same.
my $contracts_sql = q{
	SELECT vendor_org_id AS vendor, btrim(contract_reference) AS reference, name, start_date AS starts, end_date AS ends,
	       'software_package' AS covers, software_product_id AS covered
	  FROM product_contracts WHERE namespace_id = 'NS'
	UNION ALL
	SELECT vendor_org_id, btrim(contract_reference), NULL, contract_start_date, contract_end_date, 'it_service', id
	  FROM it_services WHERE namespace_id = 'NS'
	UNION ALL
	SELECT p.vendor_org_id, btrim(p.contract_reference), NULL, p.contract_start_date, p.contract_end_date, 'deployment_profile', p.id
	  FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id WHERE w.namespace_id = 'NS' AND p.dp_type <> 'cost_bundle'
	UNION ALL
	SELECT l.vendor_org_id, btrim(l.contract_reference), NULL, l.contract_start_date, l.contract_end_date, 'software_package', l.software_product_id
	  FROM deployment_profile_software_products l JOIN deployment_profiles p ON p.id = l.deployment_profile_id
	  JOIN workspaces w ON w.id = p.workspace_id WHERE w.namespace_id = 'NS' AND p.dp_type <> 'cost_bundle'};

sub wanted_contracts
{
	my ($node, $db, $ns, $all, $want) = @_;
	(my $sql = $contracts_sql) =~ s/NS/$ns/g;
	for my $c (rows($node, $db,
		"SELECT o.name AS vendor, c.vendor AS vendor_id, c.reference, coalesce(min(c.name), o.name || ' ' || c.reference) AS name,
		        min(c.starts) AS starts, min(c.ends) AS ends
		   FROM ($sql) AS c JOIN organizations o ON o.id = c.vendor
		  WHERE o.is_internal IS FALSE AND c.reference <> '' GROUP BY 1, 2, 3"))
	{
		$want->{contract}{"$c->{vendor_id}/$c->{reference}"} = {
			table => 'ast_contract', vendor_contract => $c->{reference}, short_description => substr($c->{name}, 0, 100),
			vendor => oldest_named($c->{vendor}, $all->{core_company}), starts => $c->{starts} // '', ends => $c->{ends} // '' };
	}
	return;
}

# Relationships wanted: [ type, parent entity type, parent key, child entity type, child key ].
sub wanted_pairs
{
	my ($node, $db, $ns) = @_;
	my $of_profile = "JOIN deployment_profiles p ON p.id = l.deployment_profile_id AND p.dp_type <> 'cost_bundle'
		JOIN workspaces w ON w.id = p.workspace_id AND w.namespace_id = '$ns'";
	my @pairs;
	push @pairs, map { [ 'Consumes::Consumed by', 'application', $_->{a}, 'deployment_profile', $_->{b} ] } rows($node, $db,
		"SELECT p.application_id AS a, p.id AS b FROM deployment_profiles p JOIN workspaces w ON w.id = p.workspace_id
		  WHERE w.namespace_id = '$ns' AND p.application_id IS NOT NULL AND p.sn_sync_scope = 'application_service' AND p.dp_type <> 'cost_bundle'");
	push @pairs, map { [ 'Depends on::Used by', 'deployment_profile', $_->{a}, 'it_service', $_->{b} ] } rows($node, $db,
		"SELECT DISTINCT p.id AS a, l.it_service_id AS b FROM deployment_profile_it_services l $of_profile");
	push @pairs, map { [ 'Runs on::Runs', 'deployment_profile', $_->{a}, 'software_package', $_->{b} ] } rows($node, $db,
		"SELECT DISTINCT p.id AS a, l.software_product_id AS b FROM deployment_profile_software_products l $of_profile");
	my $primary = "(SELECT p.id FROM deployment_profiles p WHERE p.application_id = %s AND p.is_primary AND p.dp_type <> 'cost_bundle'
		ORDER BY p.created_at, p.id LIMIT 1)";
	my ($source, $target) = map { sprintf "coalesce(i.${_}_deployment_profile_id, $primary)", "i.${_}_application_id" } qw(source target);
	my %flow;
	for my $f (rows($node, $db,
		"SELECT i.direction, $source AS source, $target AS target FROM application_integrations i
		   JOIN applications a ON a.id = i.source_application_id JOIN workspaces w ON w.id = a.workspace_id
		  WHERE w.namespace_id = '$ns' AND i.status = 'active'"))
	{
		next if !defined $f->{source} || !defined $f->{target} || $f->{source} eq $f->{target};
		my @ends = ($f->{source}, $f->{target});
		@ends = reverse @ends if $f->{direction} eq 'upstream';
		@ends = sort @ends    if $f->{direction} eq 'bidirectional';
		$flow{"@ends"} ||= $f->{direction} eq 'bidirectional';
	}
	for my $ends (keys %flow)
	{
		my ($a, $b) = split / /, $ends;
		push @pairs, [ $flow{$ends} ? 'Exchanges data with::Exchanges data with' : 'Sends data to::Receives data from',
			'deployment_profile', $a, 'deployment_profile', $b ];
	}
	return @pairs;
}

sub wanted_covers
{
	my ($node, $db, $ns) = @_;
	(my $sql = $contracts_sql) =~ s/NS/$ns/g;
	return map { [ 'contract', "$_->{vendor}/$_->{reference}", $_->{covers}, $_->{covered} ] } rows($node, $db,
		"SELECT DISTINCT c.vendor, c.reference, c.covers, c.covered FROM ($sql) AS c WHERE c.covered IS NOT NULL AND c.reference <> ''");
}

# { records => { entity type => { key => values } }, relations => { text => 1 }, covers => { text => 1 } }
sub wanted_there
{
	my ($node, $db, $ns, $before, $all, $aside) = @_;
	my %want;
	$_->($node, $db, $ns, $all, \%want)
	  for \&wanted_applications, \&wanted_profiles, \&wanted_services, \&wanted_products, \&wanted_contracts;
	wanted_companies($node, $db, $ns, $before, $all, \%want);
	for my $type (keys %want)
	{
		delete @{ $want{$type} }{ keys %{ $aside->{$type} // {} } };
	}
	my %relations = map { $_ => 1 } map { "$_->[1] $_->[2] > $_->[3] $_->[4] : $_->[0]" }
	  grep { $want{ $_->[1] }{ $_->[2] } && $want{ $_->[3] }{ $_->[4] } } wanted_pairs($node, $db, $ns);
	my %covers = map { $_ => 1 } map { "$_->[0] $_->[1] > $_->[2] $_->[3]" }
	  grep { $want{contract}{ $_->[1] } && $want{ $_->[2] }{ $_->[3] } } wanted_covers($node, $db, $ns);
	delete @relations{ keys %{ $aside->{relationship} // {} } };
	delete @covers{ grep { / > \S+ (\S+)$/ && $aside->{cover}{$1} } keys %covers };
	return { records => \%want, relations => \%relations, covers => \%covers };
}

# The key by which a row there is one of our records: what the row itself carries, never the map.
sub key_of
{
	my ($table, $row) = @_;
	return $row->{correlation_id} // '' if grep { $table eq $_ } @ci_tables;
	return join '/', map { $row->{$_} // '' } qw(name version manufacturer) if $table eq 'cmdb_software_product_model';
	return join '/', map { $row->{$_} // '' } qw(vendor vendor_contract)    if $table eq 'ast_contract';
	return $row->{name} // '';
}

# What is there and was not: { table => { key => [ rows ] } }
sub found_there
{
	my ($all, $before) = @_;
	my %there;
	for my $table (@tables)
	{
		push @{ $there{$table}{ key_of($table, $_) } }, $_ for grep { !$before->{$table}{ $_->{sys_id} } } @{ $all->{$table} };
	}
	return \%there;
}

# Differences of the records, as lines; fills $id with entity type and key by sys_id.
sub compare_records
{
	my ($want, $there, $id) = @_;
	my @wrong;
	my %left = map { my $t = $_; ($t => { %{ $there->{$t} // {} } }) } grep { !/_rel_ci$/ } @tables;
	for my $type (sort keys %$want)
	{
		for my $key (sort keys %{ $want->{$type} })
		{
			my %values = %{ $want->{$type}{$key} };
			my $table  = delete $values{table};
			my $rows   = delete $left{$table}{ key_of($table, \%values) };
			if (!$rows)
			{
				push @wrong, "missing: $type $key ($values{name})" if defined $values{name};
				push @wrong, "missing: $type $key" unless defined $values{name};
				next;
			}
			push @wrong, "there " . @$rows . " times: $type $key" if @$rows > 1;
			$id->{ $_->{sys_id} } = "$type $key" for @$rows;
			for my $field (sort keys %values)
			{
				my $now = $rows->[0]{$field} // '';
				push @wrong, "$type $key: $field is '$now', not '$values{$field}'" if $now ne ($values{$field} // '');
			}
		}
	}
	for my $table (sort keys %left)
	{
		push @wrong, map { "nobody wanted: $table $_" . (@{ $left{$table}{$_} } > 1 ? ' (several)' : '') } sort keys %{ $left{$table} };
	}
	return @wrong;
}

sub compare_sets
{
	my ($what, $want, $there) = @_;
	my @wrong = map { "missing $what: $_" } grep { !$there->{$_} } sort keys %$want;
	push @wrong, map { "nobody wanted $what: $_" } grep { !$want->{$_} } sort keys %$there;
	push @wrong, map { "there $there->{$_} times, $what: $_" } grep { $there->{$_} > 1 } sort keys %$there;
	return @wrong;
}

sub relations_there
{
	my ($all, $before, $id) = @_;
	my %type = map { $_->{sys_id} => $_->{name} } @{ $all->{cmdb_rel_type} };
	my (%relations, %covers);
	for my $r (grep { !$before->{cmdb_rel_ci}{ $_->{sys_id} } } @{ $all->{cmdb_rel_ci} })
	{
		$relations{ ($id->{ $r->{parent} } // "stranger $r->{parent}") . ' > ' . ($id->{ $r->{child} } // "stranger $r->{child}") . " : "
			  . ($type{ $r->{type} } // "unknown type $r->{type}") }++;
	}
	for my $r (grep { !$before->{contract_rel_ci}{ $_->{sys_id} } } @{ $all->{contract_rel_ci} })
	{
		$covers{ ($id->{ $r->{contract} } // "stranger $r->{contract}") . ' > ' . ($id->{ $r->{ci_item} } // "stranger $r->{ci_item}") }++;
	}
	return (\%relations, \%covers);
}

# The platform's own register of native keys: one of ours for each CI of ours, none where one CI a call is written.
sub compare_native_keys
{
	my ($all, $id, $expected) = @_;
	my %keys;
	push @{ $keys{ $_->{target_sys_id} } }, $_->{id} for grep { $_->{name} eq 'GetInSync' } @{ $all->{sys_object_source} };
	my @wrong;
	for my $sys_id (sort grep { $id->{$_} =~ /^(application|deployment_profile|it_service|software_package) / } keys %$id)
	{
		my $count = @{ $keys{$sys_id} // [] };
		push @wrong, "$count native keys: $id->{$sys_id}" if $count != $expected;
	}
	return @wrong;
}

# What was deleted here and is there has to be retired.  It keeps its relationships, and is not compared any further:
# returns what is to be left out there, as remember() does, and the keys.
sub compare_deleted
{
	my ($node, $db, $all, $before, $wrong) = @_;
	my %gone = map { $_->{record_id} => 1 } rows($node, $db,
		"SELECT DISTINCT record_id FROM audit_logs WHERE action = 'delete' AND table_name IN ('applications', 'deployment_profiles')");
	my %aside = map { $_ => { %{ $before->{$_} } } } keys %$before;
	my %retired;
	for my $table (@ci_tables)
	{
		for my $row (grep { !$before->{$table}{ $_->{sys_id} } && $gone{ $_->{correlation_id} // '' } } @{ $all->{$table} })
		{
			push @$wrong, "deleted here and not retired: $table $row->{correlation_id}" if $row->{operational_status} ne '6';
			$retired{ $row->{sys_id} } = $aside{$table}{ $row->{sys_id} } = 1;
		}
	}
	$aside{cmdb_rel_ci}{ $_->{sys_id} } = 1 for grep { $retired{ $_->{parent} } || $retired{ $_->{child} } } @{ $all->{cmdb_rel_ci} };
	return (\%aside, \%gone);
}

# The map has to name what is there and wanted, one row each, and nothing else; what is gone here may be in it.
sub compare_map
{
	my ($node, $db, $conn, $want, $id, $gone) = @_;
	my (@wrong, %seen, %of_id);
	my %known = map { $id->{$_} => $_ } keys %$id;
	for my $m (rows($node, $db,
		"SELECT entity_type, entity_id, native_key, external_id, parent_id FROM integration_sync_map WHERE connection_id = '$conn'"))
	{
		next if defined $m->{parent_id} || $gone->{ $m->{entity_id} };
		my ($key) = ($m->{entity_type} eq 'contract' ? $m->{native_key} =~ s/^contract\///r : $m->{entity_id});
		my $name = "$m->{entity_type} $key";
		next if $m->{entity_type} eq 'contact';
		# companies that were there are mapped, too: they were matched, not made
		next if $m->{entity_type} eq 'company' && !$want->{company}{$key};
		$seen{$name}++;
		push @wrong, "the map names $name, which is not there" unless $known{$name};
		push @wrong, "the map has another id for $name" if $known{$name} && $known{$name} ne $m->{external_id};
	}
	push @wrong, map { "not in the map: $_" } grep { !$seen{$_} } sort keys %known;
	push @wrong, map { "$seen{$_} times in the map: $_" } grep { $seen{$_} > 1 } sort keys %seen;
	my $pairs = grep { !$gone->{ $_->{parent_id} } && !$gone->{ $_->{child_id} } } rows($node, $db,
		"SELECT parent_id, child_id FROM integration_sync_map WHERE connection_id = '$conn' AND parent_id IS NOT NULL");
	return (\@wrong, $pairs);
}

# both_sides_equal($node, $db, $ns, $sim, $before, %opt): one test; says up to ten differences.
#   name    of the test
#   conn    connection, default the namespace's only one
#   aside   what put_aside() gave; default nothing may be missing
#   deleted 1: applications and profiles were deleted here, and are retired there
sub both_sides_equal
{
	my ($node, $db, $ns, $sim, $before, %opt) = @_;
	my $conn = $opt{conn} // $node->safe_psql($db, "SELECT id FROM integration_connections WHERE namespace_id = '$ns'");
	my $all  = $sim->dump(@tables, @resolved);
	my $want = wanted_there($node, $db, $ns, $before, $all, $opt{aside} // {});
	my (%id, @wrong);
	my $gone = {};
	($before, $gone) = compare_deleted($node, $db, $all, $before, \@wrong) if $opt{deleted};
	push @wrong, compare_records($want->{records}, found_there($all, $before), \%id);
	my ($relations, $covers) = relations_there($all, $before, \%id);
	push @wrong, compare_sets('relationship', $want->{relations}, $relations);
	push @wrong, compare_sets('cover',        $want->{covers},    $covers);
	my $strategy = $node->safe_psql($db, "SELECT coalesce(settings ->> 'write_api', 'ire') FROM integration_connections WHERE id = '$conn'");
	push @wrong, compare_native_keys($all, \%id, $strategy eq 'ire' ? 1 : 0);
	my ($map, $pairs) = compare_map($node, $db, $conn, $want->{records}, \%id, $gone);
	push @wrong, @$map;
	my $made = keys(%{ $want->{relations} }) + keys(%{ $want->{covers} });
	push @wrong, "the map has $pairs relationships, there are $made" if $pairs != $made;
	my $stats = $sim->stats;
	for my $kind (qw(correlation_id native_key relations merged))
	{
		push @wrong, "duplicates by $kind: $stats->{duplicates}{$kind}{count}" if $stats->{duplicates}{$kind}{count};
	}
	push @wrong, "orphaned $_: $stats->{orphans}{$_}{count}" for grep { $stats->{orphans}{$_}{count} } sort keys %{ $stats->{orphans} };

	@wrong = map { Encode::encode_utf8($_) } @wrong;
	my $size = 0;
	$size += keys %{ $want->{records}{$_} } for keys %{ $want->{records} };
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = ok(@wrong == 0 && $size > 0, $opt{name} // 'both sides are equal');
	note("compared $size records, " . keys(%{ $want->{relations} }) . " relationships, " . keys(%{ $want->{covers} }) . " covers");
	diag(scalar(@wrong) . " differences:\n  " . join("\n  ", @wrong > 10 ? (@wrong[ 0 .. 9 ], '...') : @wrong)) if @wrong;
	return $good;
}

1;
