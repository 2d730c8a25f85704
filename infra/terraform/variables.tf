# The same parameters as ../bicep/main.bicep, by the same names in snake case. What contradicts
# itself is refused before anything is planned.

variable "environment_name" {
  description = "Which environment this is, such as dev or prod: part of every name."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9]{2,8}$", var.environment_name))
    error_message = "environment_name must be lower-case letters and digits, two to eight of them."
  }
}

variable "location" {
  description = "Azure region. It needs Flex Consumption, and three zones for posture lockedDown."
  type        = string
}

variable "posture" {
  description = "default: public endpoints, identities only. lockedDown: private endpoints only."
  type        = string
  default     = "default"
  validation {
    condition     = contains(["default", "lockedDown"], var.posture)
    error_message = "posture must be default or lockedDown."
  }
}

variable "bank_url" {
  description = "Address of the bank, https. Apps payments and outbox call it."
  type        = string
  validation {
    condition     = startswith(var.bank_url, "https://")
    error_message = "bank_url must begin with https://."
  }
  validation {
    condition     = var.posture != "lockedDown" || can(regex("^(https://[^/:]+(:443)?(/.*)?)?$", var.bank_url))
    error_message = "bank_url must use port 443 in posture lockedDown."
  }
}

variable "api_client_id" {
  description = "Client id of the Entra app registration of the API; its app roles are orders.write, orders.read, ops.read, ops.replay."
  type        = string
  validation {
    condition     = length(var.api_client_id) == 36
    error_message = "api_client_id must be the client id of an app registration (a GUID)."
  }
}

variable "tenant_id" {
  description = "Tenant whose users and applications may call the API; empty for that of the deployment."
  type        = string
  default     = ""
  validation {
    condition     = var.tenant_id == "" || length(var.tenant_id) == 36
    error_message = "tenant_id must be a GUID."
  }
}

variable "alert_email" {
  description = "Who is told of alerts and of the budget."
  type        = string
  validation {
    condition     = strcontains(var.alert_email, "@")
    error_message = "alert_email must be an e-mail address."
  }
}

variable "runbook_base_url" {
  description = "Where the runbooks can be read; alerts link to <this>/<runbook>.md."
  type        = string
  default     = "docs/runbooks"
}

variable "budget_amount" {
  description = "Budget of a month, in the currency of the subscription."
  type        = number
  validation {
    condition     = var.budget_amount >= 1
    error_message = "budget_amount must be at least 1."
  }
}

variable "budget_start" {
  description = "First day of the month in which the budget begins, such as 2026-12-01. It cannot be changed later."
  type        = string
  validation {
    condition     = length(var.budget_start) == 10 && endswith(var.budget_start, "-01")
    error_message = "budget_start must be the first day of a month, such as 2026-12-01."
  }
}

variable "tags" {
  description = "Tags of every resource, besides system and environment."
  type        = map(string)
  default     = {}
}

variable "consumer_service_bus_role" {
  description = "What consumers may do with their own subscription. receiver: the least; the platform scales by the age of messages. owner: it scales by their number."
  type        = string
  default     = "receiver"
  validation {
    condition     = contains(["receiver", "owner"], var.consumer_service_bus_role)
    error_message = "consumer_service_bus_role must be receiver or owner."
  }
}

variable "zone_redundant" {
  description = "Whether what can span zones does; null for: in posture lockedDown. Serverless Cosmos DB and Service Bus Standard take no such wish."
  type        = bool
  default     = null
  validation {
    condition     = coalesce(var.zone_redundant, false) == false || var.posture == "lockedDown"
    error_message = "zone_redundant needs posture lockedDown."
  }
}

variable "always_ready_instances" {
  description = "Instances per app that are always running, for cold starts; null for 2 in posture lockedDown and 0 otherwise. Zone redundancy needs two."
  type        = number
  default     = null
  validation {
    condition     = var.always_ready_instances == null ? true : var.always_ready_instances >= (coalesce(var.zone_redundant, var.posture == "lockedDown") ? 2 : 0) && var.always_ready_instances <= 20
    error_message = "always_ready_instances must be at least 2 where zone_redundant is true, and at most 20."
  }
}

variable "maximum_instances" {
  description = "Instances per app at most."
  type        = number
  default     = 40
  validation {
    condition     = var.maximum_instances >= 40 && var.maximum_instances <= 1000
    error_message = "maximum_instances must be 40 to 1000."
  }
}

variable "instance_memory_mb" {
  description = "Memory of an instance in MB."
  type        = number
  default     = 512
  validation {
    condition     = contains([512, 2048, 4096], var.instance_memory_mb)
    error_message = "instance_memory_mb must be 512, 2048 or 4096."
  }
}

variable "messaging_units" {
  description = "Messaging units of Service Bus Premium; posture lockedDown only."
  type        = number
  default     = 1
  validation {
    condition     = contains([1, 2, 4, 8, 16], var.messaging_units)
    error_message = "messaging_units must be 1, 2, 4, 8 or 16."
  }
}

variable "store_max_throughput" {
  description = "Request units per second at most, shared by the containers; posture lockedDown only."
  type        = number
  default     = 1000
  validation {
    condition     = var.store_max_throughput >= 1000
    error_message = "store_max_throughput must be at least 1000."
  }
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30
  validation {
    condition     = var.log_retention_days >= 30 && var.log_retention_days <= 730
    error_message = "log_retention_days must be 30 to 730."
  }
}

variable "customer_orders_per_second" {
  description = "Orders per second of one customer; 0 for no limit."
  type        = number
  default     = 200
  validation {
    condition     = var.customer_orders_per_second >= 0
    error_message = "customer_orders_per_second must not be negative."
  }
}

variable "customer_claim" {
  description = "Claim that holds the customer id; empty for oid, else sub."
  type        = string
  default     = ""
}

variable "otlp_endpoint" {
  description = "Base address of an OpenTelemetry collector that takes OTLP over HTTP; empty for none: the apps then send to Application Insights by themselves."
  type        = string
  default     = ""
  validation {
    condition     = var.otlp_endpoint == "" || startswith(var.otlp_endpoint, "https://")
    error_message = "otlp_endpoint must begin with https://, or be empty."
  }
  validation {
    condition     = var.posture != "lockedDown" || can(regex("^(https://[^/:]+(:443)?(/.*)?)?$", var.otlp_endpoint))
    error_message = "otlp_endpoint must use port 443 in posture lockedDown."
  }
}

variable "operator_principal_id" {
  description = "Object id of a person or group that may write the stock (the seed); empty for nobody."
  type        = string
  default     = ""
}

variable "hub_address_prefix" {
  description = "Address space of the hub that is made, a /22; posture lockedDown without an existing hub."
  type        = string
  default     = "10.0.0.0/22"
  validation {
    condition     = endswith(var.hub_address_prefix, "/22")
    error_message = "hub_address_prefix must be a /22."
  }
}

variable "spoke_address_prefix" {
  description = "Address space of the spoke, a /22; posture lockedDown."
  type        = string
  default     = "10.1.0.0/22"
  validation {
    condition     = endswith(var.spoke_address_prefix, "/22")
    error_message = "spoke_address_prefix must be a /22."
  }
  validation {
    condition     = var.spoke_address_prefix != var.hub_address_prefix
    error_message = "hub_address_prefix and spoke_address_prefix must differ."
  }
}

variable "clients_address_prefix" {
  description = "Who may call the API in posture lockedDown; empty for the hub."
  type        = string
  default     = ""
}

variable "existing_hub_id" {
  description = "Id of a hub network that is there already; empty to make one."
  type        = string
  default     = ""
  validation {
    condition     = var.existing_hub_id == "" || var.posture == "lockedDown"
    error_message = "existing_hub_id has no meaning in posture default."
  }
  validation {
    condition     = var.existing_hub_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+$", var.existing_hub_id))
    error_message = "existing_hub_id must be the id of a virtual network."
  }
}

variable "existing_runner_address_prefix" {
  description = "Subnet of the deployment runner in the existing hub."
  type        = string
  default     = ""
  validation {
    condition     = (var.existing_runner_address_prefix == "") == (var.existing_hub_id == "")
    error_message = "existing_runner_address_prefix goes with existing_hub_id: set both or neither."
  }
}

variable "existing_dns_zone_group_id" {
  description = "Id of the resource group that holds the private DNS zones already; empty to make them."
  type        = string
  default     = ""
  validation {
    condition     = var.existing_dns_zone_group_id == "" || var.posture == "lockedDown"
    error_message = "existing_dns_zone_group_id has no meaning in posture default."
  }
  validation {
    condition     = var.existing_dns_zone_group_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+$", var.existing_dns_zone_group_id))
    error_message = "existing_dns_zone_group_id must be the id of a resource group."
  }
}

variable "egress" {
  description = "How traffic leaves in posture lockedDown. firewall: an Azure Firewall with an allow-list. hub: the firewall of the existing hub. natGateway: cheaper, with ports and service tags but no names."
  type        = string
  default     = "firewall"
  validation {
    condition     = contains(["firewall", "hub", "natGateway"], var.egress)
    error_message = "egress must be firewall, hub or natGateway."
  }
  validation {
    condition     = var.posture == "lockedDown" || var.egress == "firewall"
    error_message = "egress has no meaning in posture default."
  }
  validation {
    condition     = var.egress != "hub" || var.existing_hub_id != ""
    error_message = "egress hub needs existing_hub_id."
  }
  validation {
    condition     = var.egress != "firewall" || var.existing_hub_id == ""
    error_message = "egress firewall makes a hub of its own: with existing_hub_id choose hub or natGateway."
  }
}

variable "existing_firewall_address" {
  description = "Private address of the firewall of the existing hub; egress hub only."
  type        = string
  default     = ""
  validation {
    condition     = (var.existing_firewall_address != "") == (var.egress == "hub")
    error_message = "existing_firewall_address goes with egress hub: set both or neither."
  }
}

variable "firewall_tier" {
  description = "Tier of the firewall that is made."
  type        = string
  default     = "Standard"
  validation {
    condition     = contains(["Basic", "Standard"], var.firewall_tier)
    error_message = "firewall_tier must be Basic or Standard."
  }
}

variable "flow_logs" {
  description = "Whether what flows through the networks is logged, into an account of its own; null for: in posture lockedDown. Needs the network watcher of the region."
  type        = bool
  default     = null
  validation {
    condition     = coalesce(var.flow_logs, false) == false || var.posture == "lockedDown"
    error_message = "flow_logs needs posture lockedDown."
  }
}

variable "network_watcher_id" {
  description = "Id of the network watcher of the region; empty for the one that Azure makes."
  type        = string
  default     = ""
  validation {
    condition     = var.network_watcher_id == "" || can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/networkWatchers/[^/]+$", var.network_watcher_id))
    error_message = "network_watcher_id must be the id of a network watcher."
  }
  validation {
    condition     = var.network_watcher_id == "" || coalesce(var.flow_logs, var.posture == "lockedDown")
    error_message = "network_watcher_id has no meaning without flow_logs."
  }
}
