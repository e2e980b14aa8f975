// Addresses are relative, so that they hold below whatever path a proxy serves this at.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // A page to read: it sends no request but for the document, and asks for no credentials.
  supportedSubmitMethods: [],
  // Else it would send the document to a validator on the Internet.
  validatorUrl: null,
});
