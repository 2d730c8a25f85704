//! Who may do what: two customers, an operator and nobody on every route, in each way of finding
//! out who is asking.

use azure::cosmos::{Query, Scope};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestStack, eventually, order, shared};
use crate::issuer::{Issuer, now_s};

const ALICE: &str = "c-alice";
const BOB: &str = "c-bob";
const CUSTOMER: &[&str] = &["orders.read", "orders.write"];
const OPERATOR: &[&str] = &["ops.read", "ops.replay"];

fn order_of(customer: &str) -> Value {
    let mut body = order();
    body["customerId"] = customer.into();
    body
}

fn json_of(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    answer.json()
}

fn assert_problem(answer: &Answer, status: u16, kind: &str) {
    let body = json_of(answer, status);
    assert_eq!(body["type"], format!("/problems/{kind}"), "{body:#}");
    assert_eq!(body["traceId"].as_str().unwrap().len(), 32);
    assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401, "{answer:?}");
}

/// What the audit trail says about requests that were refused because of who asked.
async fn refusals(stack: &TestStack) -> Vec<Value> {
    const ENTRIES_MAX: usize = 2_000;
    let query = Query::new("SELECT * FROM c WHERE c.action = 'access'");
    let found = stack.store().container("audit").query(&query, Scope::All, ENTRIES_MAX).await;
    found.unwrap()
}

/// Waits for an entry about a route, by somebody, whose detail contains `detail`.
async fn until_refusal(stack: &TestStack, route: &str, actor: &str, detail: &str) -> Value {
    eventually(&format!("{route} by {actor} ({detail}) is in the audit trail"), || async {
        refusals(stack).await.into_iter().find(|entry| {
            entry["source"] == route
                && entry["actor"] == actor
                && entry["detail"].as_str().unwrap().contains(detail)
        })
    })
    .await
}

/// Whose id is unknown.
const NOBODY: &str = "(nobody)";

/// Somebody, as the headers that say so.
struct Somebody<'a> {
    stack: &'a TestStack,
    headers: Vec<(&'static str, String)>,
}

impl Somebody<'_> {
    async fn ask(&self, method: Method, path: &str, body: &str) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        self.stack.send(method, path, &headers, body.to_owned()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await
    }

    async fn submit(&self, customer: &str) -> Answer {
        self.ask(Method::POST, "/api/orders", &order_of(customer).to_string()).await
    }

    async fn cancel(&self, id: &str) -> Answer {
        self.ask(Method::POST, &format!("/api/orders/{id}/cancel"), "").await
    }

    /// The customers of the orders that are listed, page by page.
    async fn customers_listed(&self) -> Vec<String> {
        const PAGES_MAX: usize = 100;
        let mut found = Vec::new();
        let mut path = "/api/orders?limit=2".to_owned();
        for _ in 0..PAGES_MAX {
            let page = json_of(&self.get(&path).await, 200);
            let orders = page["orders"].as_array().unwrap().iter();
            found.extend(orders.map(|order| order["customerId"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return found };
            path = format!("/api/orders?limit=2&after={next}");
        }
        panic!("the list never ends");
    }
}

/// Goes through what each of the four may do with orders, whatever says who they are.
async fn prove(
    alice: &Somebody<'_>,
    bob: &Somebody<'_>,
    (operator, operator_id): (&Somebody<'_>, &str),
) {
    let mut ids = Vec::new();
    for (somebody, customer) in [(alice, ALICE), (bob, BOB), (alice, ALICE), (alice, ALICE)] {
        let answer = somebody.submit(customer).await;
        ids.push(json_of(&answer, 202)["orderId"].as_str().unwrap().to_owned());
    }
    let (hers, his) = (&ids[0], &ids[1]);
    assert_problem(&alice.submit(BOB).await, 403, "other-customer");
    assert_problem(&operator.submit(ALICE).await, 403, "forbidden");
    for (somebody, id, status) in [
        (alice, hers, 200),
        (alice, his, 404),
        (bob, his, 200),
        (bob, hers, 404),
        (operator, hers, 200),
        (operator, his, 200),
    ] {
        let answer = somebody.get(&format!("/api/orders/{id}")).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 404 {
            let nowhere = format!("/api/orders/{}", uuid::Uuid::new_v4());
            let (mut theirs, mut none) = (answer.json(), somebody.get(&nowhere).await.json());
            theirs["traceId"].take();
            none["traceId"].take();
            assert_eq!(theirs, none, "another's order looks as if there were none");
            assert!(answer.header("etag").is_empty());
        }
    }
    // Not even that it has not changed.
    let seen = bob.get(&format!("/api/orders/{his}")).await;
    let mut curious = Somebody { stack: alice.stack, headers: alice.headers.clone() };
    curious.headers.push(("if-none-match", seen.header("etag").to_owned()));
    assert_eq!(curious.get(&format!("/api/orders/{his}")).await.status, 404);

    assert_eq!(alice.customers_listed().await, [ALICE; 3]);
    assert_eq!(bob.customers_listed().await, [BOB]);
    let all = operator.customers_listed().await;
    assert!(all.iter().any(|c| c == ALICE) && all.iter().any(|c| c == BOB), "{all:?}");

    assert_problem(&alice.cancel(his).await, 404, "not-found");
    assert_problem(&operator.cancel(his).await, 403, "forbidden");
    let untouched = json_of(&bob.get(&format!("/api/orders/{his}")).await, 200);
    assert!(untouched.get("cancellation").is_none(), "{untouched:#}");
    // What was tried is written down, with the order that it was about.
    for route in ["GET /api/orders/{id}", "POST /api/orders/{id}/cancel"] {
        let entry = until_refusal(alice.stack, route, ALICE, "another customer's order").await;
        assert_eq!((&entry["orderId"], &entry["outcome"]), (&json!(his), &json!("refused")));
        assert!(entry["detail"].as_str().unwrap().starts_with("/problems/not-found"), "{entry:#}");
    }
    until_refusal(alice.stack, "POST /api/orders", ALICE, "/problems/other-customer").await;
    let cancels = "POST /api/orders/{id}/cancel";
    until_refusal(alice.stack, cancels, operator_id, "/problems/forbidden").await;
    // 202, or 409 when the payment was faster: either way the order is there for her.
    let answer = alice.cancel(hers).await;
    assert!([202, 409].contains(&answer.status.as_u16()), "{answer:?}");
}

fn somebody<'a>(stack: &'a TestStack, name: &'static str, value: String) -> Somebody<'a> {
    Somebody { stack, headers: vec![(name, value)] }
}

fn development<'a>(stack: &'a TestStack, who: &str, roles: &[&str]) -> Somebody<'a> {
    let value = format!("{who};roles={}", roles.join(","));
    somebody(stack, "x-development-principal", value)
}

/// What the route answers to: a customer, an operator, a signed-in somebody without any role, and
/// nobody.
const MATRIX: &[(&str, &str, [u16; 4])] = &[
    ("GET", "/api/orders", [200, 200, 403, 401]),
    ("POST", "/api/orders", [422, 403, 403, 401]),
    ("GET", "/api/orders/{id}", [404, 404, 403, 401]),
    ("POST", "/api/orders/{id}/cancel", [404, 403, 403, 401]),
    ("GET", "/api/products", [200, 200, 200, 401]),
    ("GET", "/api/ops/attention", [403, 200, 403, 401]),
    ("GET", "/healthz", [200, 200, 200, 200]),
    ("GET", "/readyz", [200, 200, 200, 200]),
    ("GET", "/", [200, 200, 200, 200]),
    ("GET", "/app.js", [200, 200, 200, 200]),
    // Whatever else is under operations is closed before it is known whether it is there.
    ("DELETE", "/api/ops/attention", [403, 405, 403, 401]),
];

#[tokio::test]
async fn every_route_admits_those_that_the_table_says_and_nobody_else() {
    let stack = shared().await;
    let four = [
        development(&stack, ALICE, CUSTOMER),
        development(&stack, "", OPERATOR),
        development(&stack, ALICE, &[]),
        somebody(&stack, "x-development-principal", String::new()),
    ];
    let ids = [ALICE, "developer", ALICE, NOBODY];
    let mut written = Vec::new();
    let some_id = uuid::Uuid::new_v4().to_string();
    for (method, path, statuses) in MATRIX {
        for ((somebody, status), id) in four.iter().zip(statuses).zip(ids) {
            let method: Method = method.parse().unwrap();
            let tries = method != Method::GET || path.starts_with("/api/ops/");
            if *status == 403 || (*status == 401 && tries) {
                let id = if *status == 401 { NOBODY } else { id };
                written.push((format!("{method} {path}"), id));
            }
            let found = somebody.ask(method.clone(), &path.replace("{id}", &some_id), "{}").await;
            let who = &somebody.headers[0].1;
            assert_eq!(found.status, *status, "{method} {path} by {who:?}: {found:?}");
            match status {
                401 => assert_problem(&found, 401, "unauthenticated"),
                403 => assert_problem(&found, 403, "forbidden"),
                _ => {}
            }
            if method == Method::GET {
                let head = somebody.ask(Method::HEAD, &path.replace("{id}", &some_id), "").await;
                assert_eq!(head.status, *status, "HEAD {path} by {who:?}");
            }
        }
    }
    for (route, who) in written {
        let detail =
            if who == NOBODY { "/problems/unauthenticated" } else { "/problems/forbidden" };
        let entry = until_refusal(&stack, &route, who, detail).await;
        assert_eq!(entry["traceId"].as_str().unwrap().len(), 32, "{entry:#}");
    }
    // Whoever only looks at the shop without having signed in has not tried anything.
    let all = refusals(&stack).await;
    let looked =
        |entry: &&Value| entry["source"] == "GET /api/products" && entry["actor"] == NOBODY;
    assert_eq!(all.iter().filter(looked).count(), 0);
}

#[tokio::test]
async fn a_flood_of_refused_requests_is_a_handful_of_entries_with_their_number() {
    const REQUESTS: usize = 400;
    let stack = TestStack::start().await;
    let mallory = development(&stack, "c-mallory", CUSTOMER);
    for _ in 0..REQUESTS {
        let refused = mallory.get("/api/ops/dead-letters").await;
        assert_problem(&refused, 403, "forbidden");
    }
    let told = |entry: &Value| entry["count"].as_u64().unwrap_or(1);
    let entries = eventually("each of them is counted", || async {
        let entries = refusals(&stack).await;
        let counted: u64 = entries.iter().map(told).sum();
        (counted == REQUESTS as u64).then_some(entries)
    })
    .await;
    assert!(entries.len() < REQUESTS / 10, "{} entries", entries.len());
    // Operators see it where they see the rest.
    let page = json_of(&stack.get("/api/ops/audit").await, 200);
    let shown = page["entries"].as_array().unwrap();
    assert!(shown.iter().any(|entry| entry["count"].is_u64() && entry["actor"] == "c-mallory"));
}

#[tokio::test]
async fn on_a_desk_anybody_can_be_tried_and_nobody_can_be_forged() {
    let stack = TestStack::start().await;
    let operator = development(&stack, "", OPERATOR);
    let [alice, bob] = [ALICE, BOB].map(|who| development(&stack, who, CUSTOMER));
    prove(&alice, &bob, (&operator, "developer")).await;
    assert!(stack.full_log().contains("NOBODY IS ASKED WHO THEY ARE"));
    let misspelt = somebody(&stack, "x-development-principal", "c-alice;roles=root".to_owned());
    assert_problem(&misspelt.get("/api/orders").await, 401, "unauthenticated");
    for name in ["x-ms-client-principal", "x-ms-client-principal-name", "x-ms-token-aad-id-token"] {
        let forged = somebody(&stack, name, platform_principal("aad", BOB, OPERATOR));
        assert_problem(&forged.get("/api/orders").await, 400, "untrusted-principal");
        assert_problem(&forged.submit(BOB).await, 400, "untrusted-principal");
    }
    for route in ["GET /api/orders", "POST /api/orders"] {
        until_refusal(&stack, route, NOBODY, "/problems/untrusted-principal").await;
    }
    assert!(stack.full_log().contains("a principal that nobody vouches for"));
}

/// What App Service Authentication would say.
fn platform_principal(provider: &str, who: &str, roles: &[&str]) -> String {
    let mut claims = vec![json!({
        "typ": "http://schemas.microsoft.com/identity/claims/objectidentifier", "val": who,
    })];
    claims.extend(roles.iter().map(|role| json!({"typ": "roles", "val": role})));
    let principal = json!({"auth_typ": provider, "name_typ": "name", "role_typ": "roles",
        "claims": claims});
    STANDARD.encode(principal.to_string())
}

#[tokio::test]
async fn behind_app_service_authentication_its_principal_counts_and_no_other() {
    let stack = TestStack::start_with(&["--set", "AUTH_MODE=easy-auth"]).await;
    let signed_in = |who, roles: &[&str]| {
        somebody(&stack, "x-ms-client-principal", platform_principal("aad", who, roles))
    };
    let operator = signed_in("o-1", OPERATOR);
    let operator = (&operator, "o-1");
    prove(&signed_in(ALICE, CUSTOMER), &signed_in(BOB, CUSTOMER), operator).await;
    let nobody = Somebody { stack: &stack, headers: Vec::new() };
    assert_problem(&nobody.get("/api/orders").await, 401, "unauthenticated");
    assert_eq!(nobody.get("/").await.status, 200);
    for bad in ["", "e30=", "{}", &platform_principal("google", ALICE, OPERATOR)] {
        let bad = somebody(&stack, "x-ms-client-principal", bad.to_owned());
        assert_problem(&bad.get("/api/orders").await, 401, "unauthenticated");
    }
    let developer = somebody(&stack, "x-development-principal", ALICE.to_owned());
    assert_problem(&developer.get("/api/orders").await, 400, "untrusted-principal");
}

#[tokio::test]
async fn bearer_tokens_are_taken_at_the_issuers_word_and_at_nobody_elses() {
    let issuer = Issuer::start();
    let settings = [
        "AUTH_MODE=bearer".to_owned(),
        format!("AUTH_ISSUER={}", issuer.name),
        "AUTH_AUDIENCE=api://bulkhead".to_owned(),
        format!("AUTH_JWKS_URL={}", issuer.jwks_url),
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let stack = TestStack::start_with(&arguments).await;
    let with = |token: String| somebody(&stack, "authorization", format!("Bearer {token}"));
    let signed_in = |who, roles: &[&str]| with(issuer.token(&issuer.claims(who, roles)));
    let operator = signed_in("o-1", OPERATOR);
    let operator = (&operator, "o-1");
    prove(&signed_in(ALICE, CUSTOMER), &signed_in(BOB, CUSTOMER), operator).await;

    let good = issuer.claims(ALICE, OPERATOR);
    let claims = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let strange = json!({"alg": "RS256", "kid": "nobody-knows"});
    let another = json!({"alg": "HS256", "kid": "rsa"});
    for (what, token, why) in [
        ("no signature", issuer.unsigned(&good), "header cannot be read"),
        ("another's signature", issuer.signed_by_another(&good), "InvalidSignature"),
        ("an unknown key", issuer.with_header(&strange, &good), "key is unknown"),
        ("another algorithm", issuer.with_header(&another, &good), "algorithm is not allowed"),
        ("another audience", issuer.token(&claims("aud", json!("api://b"))), "InvalidAudience"),
        ("another issuer", issuer.token(&claims("iss", json!("https://b/"))), "InvalidIssuer"),
        ("expired", issuer.token(&claims("exp", json!(now_s() - 301))), "ExpiredSignature"),
        ("not yet valid", issuer.token(&claims("nbf", json!(now_s() + 301))), "ImmatureSignature"),
        ("no token", "nonsense".to_owned(), "header cannot be read"),
    ] {
        for path in ["/api/orders", "/api/ops/attention"] {
            let refused = with(token.clone()).get(path).await;
            assert_eq!(refused.status, 401, "{what}");
            assert_problem(&refused, 401, "unauthenticated");
            assert!(refused.header("www-authenticate").contains("invalid_token"));
            until_refusal(&stack, &format!("GET {path}"), NOBODY, why).await;
        }
        let cut: String = token.chars().take(40).collect();
        assert!(cut.len() < 10 || !stack.full_log().contains(&cut), "a token is in the log");
        let trail = Value::from(refusals(&stack).await).to_string();
        assert!(cut.len() < 10 || !trail.contains(&cut), "a token is in the audit trail");
    }
    let nobody = Somebody { stack: &stack, headers: Vec::new() };
    let refused = nobody.get("/api/orders").await;
    assert_problem(&refused, 401, "unauthenticated");
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"bulkhead\"");
    // Beside a valid token, too: whoever sends it means something else than we would do.
    let mut forged = signed_in(ALICE, CUSTOMER);
    forged.headers.push(("x-ms-client-principal", platform_principal("aad", "o-1", OPERATOR)));
    assert_problem(&forged.get("/api/orders").await, 400, "untrusted-principal");
    assert!(issuer.fetches() <= 2, "{} requests to the issuer", issuer.fetches());
}
