//! JSON Web Tokens made by openssl, dates in local time, digests and codes by name.

use super::{World, check_value};
use crate::policy::sample::testing::TestFacts;
use crate::policy::sample::{Value, VariableId};

const RSA: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvui4jduxTdqU7i9ZjxIO
5kUwO7oAvkzv68XLRXgUMOkdn3ZU+eZXKpBfnhvN0kzCjSIwJXI11WewvnLPNV50
rwkWbJ5AVQl28rCjS0pSpukuGpriAM92onnIy8qEZdhhcO3omsirXaa0i9FTwI/4
ZKxJafEiKcKBBNlZucNJm+3QllIqRTo5ZtI43+ccbLJ8sEde84Okit7YuJA9JRz3
uleJkLMODUR0cwxuAiT9Sqi+TWZbAyDAk0A6OmiYTqU5KtbJQyMj0Jd2fzqzLNLc
t12rTceE54BQNi0QfzTuXnHfdbjfMCNgxz8lXQC1Ue2tldrlnjcfSZMpmq6VeZq6
jQIDAQAB
-----END PUBLIC KEY-----
";
const EC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+Je0Tkz5WUUspoRG2eTSDLbnBh1z
ol40BZUAIamvd76ErHfxLjZEFNN+qXrR2L/ZtvkfP0RzC5eBy/c6tXiZ/Q==
-----END PUBLIC KEY-----
";
const HS256: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaGFyZGdhdGUiLCJleHAiOjE5MDAwMDAwMDAsInNjb3BlcyI6WyJhIiwiYiJdfQ.tyC-tWAVxm6FwjyE4xLaSCTxf9T3uK8jfjypev2K6RU";
const RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaGFyZGdhdGUiLCJleHAiOjE5MDAwMDAwMDAsInNjb3BlcyI6WyJhIiwiYiJdfQ.G_SVcQI31QB3YCo235hjLrXogGJv852NrtFEs3pZ6ATIGHLM3GRtL6RMW5Xu9XqUzueSGL4Lixzxicrmuf_JVq5n-xZ586mqMxs_mf2nM9APzjBz1SdhIvk1cPabBgjK59HOwLx5AnzK0q0DxNtXxzLp7uroAlTCVxSDTNFJSYgUE3j2kv4opCePXUCoHoQ8ur4dHe9vswrs2BRxHprV_nN1Jn3KuxjtlCbUWHRTWYEjqC4kEy4ujm0TO1EyY4MSnI9_Dc8MPRuIfcqnOVUxUG7xeQ4O_PKd-cNpUNwFAcsWyy0VC5kHSSSHusKQzoVYAncM4zcH-DFhAq6Oo-RyUg";
const PS256: &str = "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaGFyZGdhdGUiLCJleHAiOjE5MDAwMDAwMDAsInNjb3BlcyI6WyJhIiwiYiJdfQ.GG3br6b_KSAQiOcYUJgAOcwXX0PEwS773zsKNnOXEQm6FvPpg273IvsryZEoAUTs_2YrQF_mlqof7qt9jVrEaoQesabypxPAawxbv6esvXDAi7wB_LuQwqbAyB_6ebEg1N8Qwq9BX92aWoSWesSfoHU0PRNNX8vEflgRq-LU78BFPFSKveYwc_RfQEuLN6gWGx8jAHieKtaMBq1CinMqI7orQ-aqfmPa_vGhri045OR_arc3N3Tez3zNr7z_pbu41G4tJXxAErGXmUtjUqYTDOazmW4lSLsoTHcKV908EB4i1aLwVCu1-CoEKAtPPKYDP68nsZG4P9dg10w-IHf3ow";
const ES256: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzaGFyZGdhdGUiLCJleHAiOjE5MDAwMDAwMDAsInNjb3BlcyI6WyJhIiwiYiJdfQ.XWBjyK4XW5j9D18_8F0-LN41JT3MuwGC6WKDB9bmZPCg32nLd-uLkS8Kf3-ELhx02J2wJ8FQexJuzXPzkfhEJw";

fn world() -> World {
    let files = vec![("rsa.pub", RSA.to_owned()), ("/ec.pub", EC.to_owned()), ("junk", "no key".to_owned())];
    World { files, ..World::default() }
}

/// `txn.v` is the token and `sess.w` the second variable.
fn facts(token: &str, second: &str) -> TestFacts {
    let mut facts = TestFacts::default();
    facts.variables.set(VariableId(0), Value::Str(token.as_bytes()));
    facts.variables.set(VariableId(1), Value::Str(second.as_bytes()));
    facts
}

#[test]
fn signatures_are_verified_with_the_right_kind_of_key() {
    let swapped = |token: &str| {
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let turned: String = signature.chars().rev().collect();
        format!("{signed}.{turned}")
    };
    let none = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.";
    for (token, verify, expected) in [
        (HS256, "jwt_verify(HS256,hmac key hmac key)", "1"),
        (HS256, "jwt_verify(HS256,another key)", "0"),
        (HS256, "jwt_verify(HS512,hmac key hmac key)", "0"),
        (RS256, "jwt_verify(RS256,rsa.pub)", "1"),
        (PS256, "jwt_verify(PS256,rsa.pub)", "1"),
        (PS256, "jwt_verify(RS256,rsa.pub)", "0"),
        (ES256, "jwt_verify(ES256,/ec.pub)", "1"),
        (ES256, "jwt_verify(RS256,rsa.pub)", "0"),
        (ES256, "jwt_verify(ES256,rsa.pub)", "-2"),
        (&swapped(HS256), "jwt_verify(HS256,hmac key hmac key)", "0"),
        (&swapped(RS256), "jwt_verify(RS256,rsa.pub)", "0"),
        (&swapped(ES256), "jwt_verify(ES256,/ec.pub)", "0"),
        (none, "jwt_verify(HS256,hmac key hmac key)", "-3"),
        ("a.b", "jwt_verify(HS256,k)", "-3"),
        ("", "jwt_verify(HS256,k)", "-3"),
        ("a.b.c.d", "jwt_verify(HS256,k)", "-3"),
        // A public key must never become the secret of an HMAC.
        (HS256, "jwt_verify(RS256,rsa.pub)", "0"),
    ] {
        check_value(&world(), &format!("var(txn.v),{verify}"), &facts(token, ""), Some(expected));
    }
    for (token, second, verify, expected) in [
        (ES256, "ES256", "jwt_verify(sess.w,/ec.pub)", "1"),
        (HS256, "HS256", "jwt_verify(sess.w,/ec.pub)", "-2"),
        (HS256, "none", "jwt_verify(sess.w,/ec.pub)", "-1"),
        (HS256, "HS256", "jwt_verify(sess.w,hmac key hmac key)", "1"),
        (HS256, "hmac key hmac key", "jwt_verify(HS256,sess.w)", "1"),
        (HS256, "other", "jwt_verify(HS256,sess.w)", "0"),
    ] {
        check_value(&world(), &format!("var(txn.v),{verify}"), &facts(token, second), Some(expected));
    }
}

#[test]
fn parts_of_tokens_are_queried() {
    for (token, query, expected) in [
        (HS256, "jwt_header_query('$.alg')", Some("HS256")),
        (RS256, "jwt_header_query($.typ)", Some("JWT")),
        (HS256, "jwt_header_query", Some("{\"alg\":\"HS256\",\"typ\":\"JWT\"}")),
        (HS256, "jwt_payload_query($.iss)", Some("shardgate")),
        (HS256, "jwt_payload_query($.exp,int)", Some("1900000000")),
        (HS256, "jwt_payload_query($.scopes[1])", Some("b")),
        (HS256, "jwt_payload_query($.none)", None),
        ("no token", "jwt_payload_query($.iss)", None),
        ("a.!.c", "jwt_payload_query($.iss)", None),
    ] {
        check_value(&world(), &format!("var(txn.v),{query}"), &facts(token, ""), expected);
    }
}

#[test]
fn wrong_arguments_do_not_compile() {
    for text in [
        "str(a),jwt_verify(none,k)",
        "str(a),jwt_verify(HS257,k)",
        "str(a),jwt_verify(RS256,missing.pub)",
        "str(a),jwt_verify(RS256,junk)",
        "str(a),jwt_payload_query(iss)",
        "str(a),hmac(sha256,!)",
        "str(a),hmac(sha3)",
        "str(a),digest(crc)",
        "int(1),ltime",
    ] {
        assert!(super::expr(text, &world()).is_err(), "{text}");
    }
}

#[test]
fn digests_codes_and_local_time() {
    let facts = facts("", "a2V5");
    for (text, expected) in [
        ("str(abc),digest(sha256)", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("str(abc),digest(MD5)", "900150983cd24fb0d6963f7d28e17f72"),
        // HMAC vectors of RFC 2104 and RFC 4231's kind, made by openssl dgst -hmac key.
        ("str(abc),hmac(sha256,a2V5)", "9c196e32dc0175f86f4b1cb89289d6619de6bee699e4c378e68309ed97a1a6ab"),
        ("str(abc),hmac(sha1,sess.w)", "4fd0b215276ef12f2b3e4c8ecac2811498b656fc"),
        ("str(abc),hmac(md5,a2V5)", "d2fe98063f876b03193afb49b4979591"),
        ("str(abc),hmac(sha512,a2V5),length", "64"),
        // Whatever the zone of this machine; tests/it sets one.
        ("int(1500000000),ltime(%s,60)", "1500000060"),
    ] {
        check_value(&world(), text, &facts, Some(expected));
    }
}
