using 'main.bicep'

param environmentName = 'prod'
param location = readEnvironmentVariable('AZURE_LOCATION', 'westeurope')
param posture = 'lockedDown'
param bankUrl = readEnvironmentVariable('BANK_URL', '')
param apiClientId = readEnvironmentVariable('API_CLIENT_ID', '')
param alertEmail = readEnvironmentVariable('ALERT_EMAIL', '')
param budgetAmount = 2500
param budgetStart = readEnvironmentVariable('BUDGET_START', '')
param consumerServiceBusRole = 'owner'
param logRetentionDays = 90
