// The page must not hold a script of its own (see its Content-Security-Policy).
SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href, // beside the page, behind whatever proxy
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: "none", // it is another host's
});
