// One identity per app: what one app may do says nothing about another.
param location string
param tags object
param environmentName string
param apps array

resource identities 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = [
  for app in apps: {
    name: 'id-${app}-${environmentName}'
    location: location
    tags: tags
  }
]

output identities array = [
  for (app, i) in apps: {
    app: app
    id: identities[i].id
    clientId: identities[i].properties.clientId
  }
]

@description('Object ids by app.')
output principals array = [
  for (app, i) in apps: {
    app: app
    id: identities[i].properties.principalId
  }
]
