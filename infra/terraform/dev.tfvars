# location, bank_url, api_client_id, alert_email and budget_start come from TF_VAR_* or the command line.
environment_name = "dev"
posture          = "default"
budget_amount    = 50
