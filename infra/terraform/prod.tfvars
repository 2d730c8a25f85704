# location, bank_url, api_client_id, alert_email and budget_start come from TF_VAR_* or the command line.
environment_name          = "prod"
posture                   = "lockedDown"
budget_amount             = 2500
consumer_service_bus_role = "owner"
log_retention_days        = 90
