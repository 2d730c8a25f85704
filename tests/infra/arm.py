"""azurerm resources in Azure's own terms: type, id and body as Bicep would write them.

Only what the tests compare and check is translated; an attribute that is not understood here stops
the tests, so that nothing slips through unseen.
"""
import azure
from bicep import Resource

GROUP = 'resource_group_name'

# What Azure fills in, by azurerm type and attribute.
COMPUTED = {
    'azurerm_user_assigned_identity': {
        'principal_id': lambda v: f'principal({v["name"]})', 'client_id': lambda v: f'client({v["name"]})'},
    'azurerm_storage_account': {
        f'primary_{part}_endpoint': lambda v, part=part: f'https://{v["name"]}.{part}.core.windows.net/'
        for part in ('blob', 'queue', 'table')},
    'azurerm_cosmosdb_account': {'endpoint': lambda v: f'https://{v["name"]}.documents.azure.com:443/'},
    'azurerm_application_insights': {'connection_string': lambda v: f'connection({v["name"]})'},
    'azurerm_eventgrid_topic': {'endpoint': lambda v: f'https://{v["name"]}.eventgrid.azure.net/api/events'},
}

# azurerm type: (Azure type, attribute that holds the parent's id or a function of the values).
KINDS = {
    'azurerm_user_assigned_identity': ('Microsoft.ManagedIdentity/userAssignedIdentities', GROUP),
    'azurerm_servicebus_namespace': ('Microsoft.ServiceBus/namespaces', GROUP),
    'azurerm_servicebus_topic': ('Microsoft.ServiceBus/namespaces/topics', 'namespace_id'),
    'azurerm_servicebus_subscription': ('Microsoft.ServiceBus/namespaces/topics/subscriptions', 'topic_id'),
    'azurerm_servicebus_subscription_rule': ('Microsoft.ServiceBus/namespaces/topics/subscriptions/rules', 'subscription_id'),
    'azurerm_cosmosdb_account': ('Microsoft.DocumentDB/databaseAccounts', GROUP),
    'azurerm_storage_account': ('Microsoft.Storage/storageAccounts', GROUP),
    'azurerm_eventgrid_topic': ('Microsoft.EventGrid/topics', GROUP),
    'azurerm_log_analytics_workspace': ('Microsoft.OperationalInsights/workspaces', GROUP),
    'azurerm_log_analytics_saved_search': ('Microsoft.OperationalInsights/workspaces/savedSearches', 'log_analytics_workspace_id'),
    'azurerm_application_insights': ('Microsoft.Insights/components', GROUP),
    'azurerm_application_insights_workbook': ('Microsoft.Insights/workbooks', GROUP),
    'azurerm_monitor_action_group': ('Microsoft.Insights/actionGroups', GROUP),
    'azurerm_monitor_metric_alert': ('Microsoft.Insights/metricAlerts', GROUP),
    'azurerm_monitor_scheduled_query_rules_alert_v2': ('Microsoft.Insights/scheduledQueryRules', GROUP),
    'azurerm_monitor_private_link_scope': ('Microsoft.Insights/privateLinkScopes', GROUP),
    'azurerm_service_plan': ('Microsoft.Web/serverfarms', GROUP),
    'azurerm_network_security_group': ('Microsoft.Network/networkSecurityGroups', GROUP),
    'azurerm_public_ip': ('Microsoft.Network/publicIPAddresses', GROUP),
    'azurerm_nat_gateway': ('Microsoft.Network/natGateways', GROUP),
    'azurerm_route_table': ('Microsoft.Network/routeTables', GROUP),
    'azurerm_virtual_network': ('Microsoft.Network/virtualNetworks', GROUP),
    'azurerm_firewall_policy': ('Microsoft.Network/firewallPolicies', GROUP),
    'azurerm_firewall_policy_rule_collection_group': ('Microsoft.Network/firewallPolicies/ruleCollectionGroups', 'firewall_policy_id'),
    'azurerm_firewall': ('Microsoft.Network/azureFirewalls', GROUP),
    'azurerm_private_dns_zone': ('Microsoft.Network/privateDnsZones', GROUP),
    'azurerm_private_dns_zone_virtual_network_link': ('Microsoft.Network/privateDnsZones/virtualNetworkLinks', 'private_dns_zone_id'),
    'azurerm_private_endpoint': ('Microsoft.Network/privateEndpoints', GROUP),
    'azurerm_consumption_budget_resource_group': ('Microsoft.Consumption/budgets', 'resource_group_id'),
    'azurerm_eventgrid_event_subscription': ('Microsoft.EventGrid/topics/eventSubscriptions', 'scope'),
    'azurerm_role_assignment': ('Microsoft.Authorization/roleAssignments', 'scope'),
    'azurerm_monitor_diagnostic_setting': ('Microsoft.Insights/diagnosticSettings', 'target_resource_id'),
}


def _account(values):
    return azure.child_id(azure.group_id(values[GROUP]), 'Microsoft.DocumentDB/databaseAccounts', values['account_name'])


def _special(instance):
    v = instance.values
    return {
        'azurerm_resource_group': lambda: ('Microsoft.Resources/resourceGroups', azure.group_id(v['name'])),
        'azurerm_cosmosdb_sql_database': lambda: (
            'Microsoft.DocumentDB/databaseAccounts/sqlDatabases', f'{_account(v)}/sqlDatabases/{v["name"]}'),
        'azurerm_cosmosdb_sql_container': lambda: (
            'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers',
            f'{_account(v)}/sqlDatabases/{v["database_name"]}/containers/{v["name"]}'),
        'azurerm_cosmosdb_sql_role_definition': lambda: (
            'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions',
            f'{_account(v)}/sqlRoleDefinitions/guid({_account(v)}, metadata-reader)'),
        'azurerm_cosmosdb_sql_role_assignment': lambda: (
            'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments',
            f'{_account(v)}/sqlRoleAssignments/{v["principal_id"]} {v["role_definition_id"]} {v["scope"]}'),
        'azurerm_storage_container': lambda: (
            'Microsoft.Storage/storageAccounts/blobServices/containers',
            f'{v["storage_account_id"]}/blobServices/default/containers/{v["name"]}'),
        'azurerm_storage_queue': lambda: (
            'Microsoft.Storage/storageAccounts/queueServices/queues',
            f'{v["storage_account_id"]}/queueServices/default/queues/{v["name"]}'),
        'azurerm_subnet': lambda: (
            'Microsoft.Network/virtualNetworks/subnets',
            f'{azure.child_id(azure.group_id(v[GROUP]), "Microsoft.Network/virtualNetworks", v["virtual_network_name"])}/subnets/{v["name"]}'),
        'azurerm_virtual_network_peering': lambda: (
            'Microsoft.Network/virtualNetworks/virtualNetworkPeerings',
            f'{azure.child_id(azure.group_id(v[GROUP]), "Microsoft.Network/virtualNetworks", v["virtual_network_name"])}/virtualNetworkPeerings/{v["name"]}'),
        'azurerm_monitor_private_link_scoped_service': lambda: (
            'Microsoft.Insights/privateLinkScopes/scopedResources',
            f'{azure.child_id(azure.group_id(v[GROUP]), "Microsoft.Insights/privateLinkScopes", v["scope_name"])}/scopedResources/{v["name"]}'),
    }.get(instance.kind)


def identity_of(instance):
    """(Azure type, id) of an instance."""
    v = instance.values
    if instance.kind in ('azapi_resource', 'azapi_update_resource'):
        kind = v['type'].split('@')[0]
        return kind, v.get('resource_id') or azure.child_id(v['parent_id'], kind, v['name'])
    special = _special(instance)
    if special:
        return special()
    kind, parent = KINDS[instance.kind]
    above = azure.group_id(v[GROUP]) if parent == GROUP else v[parent]
    name = v.get('name') or f'{v["principal_id"]} {v["role_definition_id"]}'
    return kind, azure.child_id(above, kind, name)


def on(flag):
    return 'Enabled' if flag else 'Disabled'


def first(values, name):
    return (values.get(name) or [None])[0]


def identity_block(v):
    block = first(v, 'identity')
    if not block:
        return None
    return {'type': block['type'], 'userAssignedIdentities': {id: {} for id in block.get('identity_ids', [])}}


def body_of(instance):
    """The body of an instance as Bicep would write it, as far as the tests compare it."""
    v = instance.values
    if instance.kind in ('azapi_resource', 'azapi_update_resource'):
        body = dict(v['body'])
        for key in ('location', 'tags'):
            if key in v:
                body[key] = v[key]
        if identity_block(v):
            body['identity'] = identity_block(v)
        return body
    translate = globals().get('_' + instance.kind.removeprefix('azurerm_'))
    body = translate(v) if translate else {}
    for key in ('location', 'tags'):
        if key in v:
            body[key] = v[key]
    return body


def _servicebus_namespace(v):
    return {'sku': {'name': v['sku'], 'capacity': v['capacity'] or None}, 'properties': {
        'disableLocalAuth': not v['local_auth_enabled'], 'minimumTlsVersion': v['minimum_tls_version'],
        'publicNetworkAccess': on(v['public_network_access_enabled']),
        'premiumMessagingPartitions': v['premium_messaging_partitions'] or None}}


def _servicebus_topic(v):
    return {'properties': {
        'requiresDuplicateDetection': v['requires_duplicate_detection'],
        'duplicateDetectionHistoryTimeWindow': v['duplicate_detection_history_time_window'],
        'defaultMessageTimeToLive': v['default_message_ttl'], 'maxSizeInMegabytes': v['max_size_in_megabytes']}}


def _servicebus_subscription(v):
    return {'properties': {
        'lockDuration': v['lock_duration'], 'maxDeliveryCount': v['max_delivery_count'],
        'defaultMessageTimeToLive': v['default_message_ttl'],
        'deadLetteringOnMessageExpiration': v['dead_lettering_on_message_expiration'],
        'deadLetteringOnFilterEvaluationExceptions': v['dead_lettering_on_filter_evaluation_error'],
        'requiresSession': v['requires_session']}}


def _servicebus_subscription_rule(v):
    return {'properties': {'filterType': v['filter_type'], 'sqlFilter': {'sqlExpression': v['sql_filter']}}}


def _cosmosdb_account(v):
    place, backup = first(v, 'geo_location'), first(v, 'backup')
    return {'kind': v['kind'], 'properties': {
        'databaseAccountOfferType': v['offer_type'], 'disableLocalAuth': not v['local_authentication_enabled'],
        'disableKeyBasedMetadataWriteAccess': not v['access_key_metadata_writes_enabled'],
        'minimalTlsVersion': v['minimal_tls_version'], 'publicNetworkAccess': on(v['public_network_access_enabled']),
        'capabilities': [{'name': c['name']} for c in v.get('capabilities', [])],
        'consistencyPolicy': {'defaultConsistencyLevel': first(v, 'consistency_policy')['consistency_level']},
        'enableMultipleWriteLocations': v['multiple_write_locations_enabled'],
        'enableAutomaticFailover': v['automatic_failover_enabled'],
        'locations': [{'locationName': place['location'], 'failoverPriority': place['failover_priority'],
                       'isZoneRedundant': place['zone_redundant']}],
        'backupPolicy': {'type': backup['type'], 'continuousModeProperties': {'tier': backup['tier']}}}}


def _cosmosdb_sql_database(v):
    scaled = first(v, 'autoscale_settings')
    options = {'autoscaleSettings': {'maxThroughput': scaled['max_throughput']}} if scaled else {}
    return {'properties': {'resource': {'id': v['name']}, 'options': options}}


def _cosmosdb_sql_container(v):
    resource = {'id': v['name'], 'partitionKey': {
        'paths': v['partition_key_paths'], 'kind': v['partition_key_kind'], 'version': v['partition_key_version']}}
    if v['default_ttl'] is not None:
        resource['defaultTtl'] = v['default_ttl']
    return {'properties': {'resource': resource}}


def _cosmosdb_sql_role_definition(v):
    return {'properties': {'roleName': v['name'], 'type': v['type'], 'assignableScopes': v['assignable_scopes'],
                           'permissions': [{'dataActions': p['data_actions']} for p in v['permissions']]}}


def _cosmosdb_sql_role_assignment(v):
    return {'properties': {'principalId': v['principal_id'], 'roleDefinitionId': v['role_definition_id'], 'scope': v['scope']}}


def _role_assignment(v):
    return {'properties': {'principalId': v['principal_id'], 'principalType': v['principal_type'],
                           'roleDefinitionId': v['role_definition_id']}}


def _storage_account(v):
    rules = first(v, 'network_rules')
    return {'kind': v['account_kind'], 'sku': {'name': f'{v["account_tier"]}_{v["account_replication_type"]}'}, 'properties': {
        'accessTier': v['access_tier'], 'allowBlobPublicAccess': v['allow_nested_items_to_be_public'],
        'allowCrossTenantReplication': v['cross_tenant_replication_enabled'],
        'allowSharedKeyAccess': v['shared_access_key_enabled'],
        'defaultToOAuthAuthentication': v['default_to_oauth_authentication'], 'isLocalUserEnabled': v['local_user_enabled'],
        'minimumTlsVersion': v['min_tls_version'], 'supportsHttpsTrafficOnly': v['https_traffic_only_enabled'],
        'publicNetworkAccess': on(v['public_network_access_enabled']),
        'networkAcls': {'defaultAction': rules['default_action'], 'bypass': ','.join(rules['bypass'])}}}


def _storage_container(v):
    return {'properties': {'publicAccess': {'private': 'None'}[v['container_access_type']]}}


def _eventgrid_topic(v):
    return {'identity': {'type': first(v, 'identity')['type']}, 'properties': {
        'inputSchema': v['input_schema'], 'disableLocalAuth': not v['local_auth_enabled'],
        'publicNetworkAccess': on(v['public_network_access_enabled'])}}


def _eventgrid_event_subscription(v):
    queue, blob, retry = (first(v, k) for k in ('storage_queue_endpoint', 'storage_blob_dead_letter_destination', 'retry_policy'))
    return {'properties': {
        'eventDeliverySchema': v['event_delivery_schema'],
        'deliveryWithResourceIdentity': {
            'identity': {'type': first(v, 'delivery_identity')['type']},
            'destination': {'endpointType': 'StorageQueue', 'properties': {
                'resourceId': queue['storage_account_id'], 'queueName': queue['queue_name']}}},
        'deadLetterWithResourceIdentity': {
            'identity': {'type': first(v, 'dead_letter_identity')['type']},
            'deadLetterDestination': {'endpointType': 'StorageBlob', 'properties': {
                'resourceId': blob['storage_account_id'], 'blobContainerName': blob['storage_blob_container_name']}}},
        'filter': {'includedEventTypes': v['included_event_types']},
        'retryPolicy': {'maxDeliveryAttempts': retry['max_delivery_attempts'], 'eventTimeToLiveInMinutes': retry['event_time_to_live']}}}


def _log_analytics_workspace(v):
    return {'properties': {
        'sku': {'name': v['sku']}, 'retentionInDays': v['retention_in_days'],
        'features': {'disableLocalAuth': not v['local_authentication_enabled']},
        'publicNetworkAccessForIngestion': v['internet_ingestion_access_type'],
        'publicNetworkAccessForQuery': v['internet_query_access_type']}}


def _log_analytics_saved_search(v):
    return {'properties': {'category': v['category'], 'displayName': v['display_name'], 'query': v['query']}}


def _application_insights(v):
    return {'properties': {
        'Application_Type': v['application_type'], 'WorkspaceResourceId': v['workspace_id'],
        'DisableLocalAuth': not v['local_authentication_enabled'],
        'publicNetworkAccessForIngestion': on(v['internet_ingestion_enabled']),
        'publicNetworkAccessForQuery': on(v['internet_query_enabled'])}}


def _application_insights_workbook(v):
    return {'properties': {'displayName': v['display_name'], 'serializedData': v['data_json'], 'sourceId': v['source_id']}}


def _monitor_action_group(v):
    return {'properties': {'groupShortName': v['short_name'], 'enabled': True, 'emailReceivers': [
        {'name': r['name'], 'emailAddress': r['email_address'], 'useCommonAlertSchema': r['use_common_alert_schema']}
        for r in v['email_receiver']]}}


def _monitor_diagnostic_setting(v):
    logs = [{('categoryGroup' if log['category_group'] else 'category'): log['category_group'] or log['category'], 'enabled': True}
            for log in v.get('enabled_log', [])]
    metrics = [{'category': m['category'], 'enabled': True} for m in v.get('enabled_metric', [])]
    return {'properties': {'workspaceId': v['log_analytics_workspace_id'], 'logs': logs, 'metrics': metrics,
                           'logAnalyticsDestinationType': v['log_analytics_destination_type']}}


def _monitor_metric_alert(v):
    rule = first(v, 'criteria')
    return {'properties': {
        'description': v['description'], 'enabled': v['enabled'], 'severity': v['severity'], 'autoMitigate': v['auto_mitigate'],
        'scopes': v['scopes'], 'evaluationFrequency': v['frequency'], 'windowSize': v['window_size'],
        'criteria': {'allOf': [{
            'metricNamespace': rule['metric_namespace'], 'metricName': rule['metric_name'],
            'timeAggregation': rule['aggregation'], 'operator': rule['operator'], 'threshold': rule['threshold'],
            'dimensions': rule.get('dimension', [])}]},
        'actions': [{'actionGroupId': action['action_group_id']} for action in v['action']]}}


def _monitor_scheduled_query_rules_alert_v2(v):
    rule, action, failing = first(v, 'criteria'), first(v, 'action'), first(first(v, 'criteria'), 'failing_periods')
    return {'properties': {
        'displayName': v['display_name'], 'description': v['description'], 'enabled': v['enabled'], 'severity': v['severity'],
        'autoMitigate': v['auto_mitigation_enabled'], 'scopes': v['scopes'],
        'evaluationFrequency': v['evaluation_frequency'], 'windowSize': v['window_duration'],
        'criteria': {'allOf': [{
            'query': rule['query'], 'timeAggregation': rule['time_aggregation_method'],
            'metricMeasureColumn': rule['metric_measure_column'], 'dimensions': rule.get('dimension', []),
            'operator': rule['operator'], 'threshold': rule['threshold'],
            'failingPeriods': {'numberOfEvaluationPeriods': failing['number_of_evaluation_periods'],
                               'minFailingPeriodsToAlert': failing['minimum_failing_periods_to_trigger_alert']}}]},
        'actions': {'actionGroups': action['action_groups'], 'customProperties': action['custom_properties']}}}


def _consumption_budget_resource_group(v):
    return {'properties': {
        'amount': v['amount'], 'timeGrain': v['time_grain'], 'timePeriod': {'startDate': first(v, 'time_period')['start_date']},
        'notifications': [{
            'enabled': n['enabled'], 'operator': n['operator'], 'threshold': n['threshold'], 'thresholdType': n['threshold_type'],
            'contactEmails': n['contact_emails'], 'contactGroups': n['contact_groups']} for n in v['notification']]}}


def _service_plan(v):
    return {'sku': {'name': v['sku_name']}, 'properties': {'reserved': v['os_type'] == 'Linux', 'zoneRedundant': v['zone_balancing_enabled']}}


def _network_security_group(v):
    return {'properties': {'securityRules': [{'name': r['name'], 'properties': {
        'description': r['description'], 'priority': r['priority'], 'direction': r['direction'], 'access': r['access'],
        'protocol': r['protocol'], 'sourceAddressPrefix': r['source_address_prefix'], 'sourcePortRange': r['source_port_range'],
        'destinationAddressPrefix': r['destination_address_prefix'], 'destinationPortRanges': r['destination_port_ranges'],
    }} for r in v['security_rule']]}}


def _public_ip(v):
    return {'sku': {'name': v['sku']}, 'zones': v['zones'], 'properties': {'publicIPAllocationMethod': v['allocation_method']}}


def _nat_gateway(v):
    return {'sku': {'name': v['sku_name']}}


def _route_table(v):
    return {'properties': {'disableBgpRoutePropagation': not v['bgp_route_propagation_enabled'], 'routes': [
        {'name': r['name'], 'properties': {'addressPrefix': r['address_prefix'], 'nextHopType': r['next_hop_type'],
                                           'nextHopIpAddress': r['next_hop_in_ip_address']}} for r in v['route']]}}


def _virtual_network(v):
    return {'properties': {'addressSpace': {'addressPrefixes': v['address_space']}}}


def _subnet(v):
    delegation = first(v, 'delegation')
    properties = {'addressPrefix': v['address_prefixes'][0]}
    if 'default_outbound_access_enabled' in v:
        properties['defaultOutboundAccess'] = v['default_outbound_access_enabled']
    if 'private_endpoint_network_policies' in v:
        properties['privateEndpointNetworkPolicies'] = v['private_endpoint_network_policies']
    if delegation:
        service = first(delegation, 'service_delegation')['name']
        properties['delegations'] = [{'name': delegation['name'], 'properties': {'serviceName': service}}]
    return {'properties': properties}


def _virtual_network_peering(v):
    return {'properties': {
        'remoteVirtualNetwork': {'id': v['remote_virtual_network_id']},
        'allowVirtualNetworkAccess': v['allow_virtual_network_access'], 'allowForwardedTraffic': v['allow_forwarded_traffic'],
        'allowGatewayTransit': v['allow_gateway_transit'], 'useRemoteGateways': v['use_remote_gateways']}}


def _private_dns_zone_virtual_network_link(v):
    return {'properties': {'registrationEnabled': v['registration_enabled'], 'virtualNetwork': {'id': v['virtual_network_id']}}}


def _monitor_private_link_scope(v):
    return {'properties': {'accessModeSettings': {
        'ingestionAccessMode': v['ingestion_access_mode'], 'queryAccessMode': v['query_access_mode']}}}


def _monitor_private_link_scoped_service(v):
    return {'properties': {'linkedResourceId': v['linked_resource_id']}}


def _private_endpoint(v):
    link, zones = first(v, 'private_service_connection'), first(v, 'private_dns_zone_group')
    return {'properties': {
        'subnet': {'id': v['subnet_id']},
        'privateLinkServiceConnections': [{'name': link['name'], 'properties': {
            'privateLinkServiceId': link['private_connection_resource_id'], 'groupIds': link['subresource_names']}}],
        'zones': zones['private_dns_zone_ids']}}


def _firewall_policy(v):
    return {'properties': {'sku': {'tier': v['sku']}, 'threatIntelMode': v['threat_intelligence_mode']}}


def _firewall_policy_rule_collection_group(v):
    return {'properties': {'priority': v['priority'], 'ruleCollections': [{
        'ruleCollectionType': 'FirewallPolicyFilterRuleCollection', 'name': c['name'], 'priority': c['priority'],
        'action': {'type': c['action']}, 'rules': [{
            'ruleType': 'ApplicationRule', 'name': r['name'], 'sourceAddresses': r['source_addresses'],
            'targetFqdns': r['destination_fqdns'],
            'protocols': [{'protocolType': p['type'], 'port': p['port']} for p in r['protocols']]} for r in c['rule']],
    } for c in v['application_rule_collection']]}}


def _firewall(v):
    def configuration(block):
        return {'name': block['name'], 'properties': {
            'subnet': {'id': block['subnet_id']}, 'publicIPAddress': {'id': block['public_ip_address_id']}}}
    management = first(v, 'management_ip_configuration')
    return {'zones': v['zones'], 'properties': {
        'sku': {'name': v['sku_name'], 'tier': v['sku_tier']}, 'firewallPolicy': {'id': v['firewall_policy_id']},
        'ipConfigurations': [configuration(c) for c in v['ip_configuration']],
        'managementIpConfiguration': configuration(management) if management else None}}


# What ties two resources together in Terraform is a property of one of them in Azure.
TIES = {
    'azurerm_subnet_network_security_group_association': ('subnet_id', 'networkSecurityGroup', 'network_security_group_id'),
    'azurerm_subnet_route_table_association': ('subnet_id', 'routeTable', 'route_table_id'),
    'azurerm_subnet_nat_gateway_association': ('subnet_id', 'natGateway', 'nat_gateway_id'),
}


def resources(instances):
    """The instances as Azure resources."""
    found, ties, updates = [], [], []
    for instance in instances:
        if instance.kind in TIES or instance.kind == 'azurerm_nat_gateway_public_ip_association':
            ties.append(instance)
        elif instance.kind == 'azapi_update_resource' and 'resource_id' in instance.values:
            updates.append(instance)
        else:
            kind, id = identity_of(instance)
            scope = instance.values.get('scope') or instance.values.get('target_resource_id')
            found.append(Resource(kind, instance.values.get('name') or id.split('/')[-1], id, body_of(instance), scope=scope))
    by_id = {resource.id: resource for resource in found}
    for tie in ties:
        if tie.kind in TIES:
            subject, name, value = TIES[tie.kind]
            by_id[tie.values[subject]].body['properties'][name] = {'id': tie.values[value]}
        else:
            nat = by_id[tie.values['nat_gateway_id']]
            nat.body.setdefault('properties', {}).setdefault('publicIpAddresses', []).append({'id': tie.values['public_ip_address_id']})
    for update in updates:
        by_id[update.values['resource_id']].body['properties'].update(update.values['body']['properties'])
    return found
