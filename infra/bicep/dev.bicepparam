using 'main.bicep'

param environmentName = 'dev'
param location = readEnvironmentVariable('AZURE_LOCATION', 'westeurope')
param posture = 'default'
param bankUrl = readEnvironmentVariable('BANK_URL', '')
param apiClientId = readEnvironmentVariable('API_CLIENT_ID', '')
param alertEmail = readEnvironmentVariable('ALERT_EMAIL', '')
param budgetAmount = 50
param budgetStart = readEnvironmentVariable('BUDGET_START', '')
