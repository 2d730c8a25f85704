# Providers. The function apps go through azapi: azurerm writes a connection string with an empty key
# where the host's storage is to be reached by identity.
terraform {
  required_version = ">= 1.9.0"

  required_providers {
    azapi = {
      source  = "Azure/azapi"
      version = "~> 2.12"
    }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
  }

  # State is kept where `terraform init -backend-config=...` says, entered by identity.
  backend "azurerm" {
    use_azuread_auth = true
  }
}

provider "azurerm" {
  # Data in storage accounts is none of Terraform's business, and in posture lockedDown out of reach.
  storage_use_azuread = true
  resource_providers_to_register = [
    "Microsoft.AlertsManagement",
    "Microsoft.App",
    "Microsoft.Consumption",
    "Microsoft.DocumentDB",
    "Microsoft.EventGrid",
    "Microsoft.Insights",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.ServiceBus",
    "Microsoft.Storage",
    "Microsoft.Web",
  ]

  features {
    # Azure gives every new subscription a rule that lets everything in.
    servicebus {
      auto_delete_subscription_default_rule = true
    }
    storage {
      data_plane_available = false
    }
  }
}

provider "azapi" {}
