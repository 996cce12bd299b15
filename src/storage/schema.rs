//! The tables as diesel sees them: only the columns' types. What each column means stands in the migration.

diesel::table! {
    meta (name) {
        name -> Text,
        value -> Text,
    }
}

diesel::table! {
    users (id) {
        id -> Binary,
        name -> Text,
        created_at -> BigInt,
        deleted_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    keys (id) {
        id -> Binary,
        name -> Text,
        user_id -> Nullable<Binary>,
        hash -> Binary,
        prefix -> Text,
        models -> Nullable<Text>,
        rpm -> Nullable<BigInt>,
        concurrency -> Nullable<BigInt>,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        regions -> Nullable<Text>,
        class -> Text,
    }
}

diesel::table! {
    requests (id) {
        id -> Binary,
        request_id -> Nullable<Text>,
        key_id -> Binary,
        user_id -> Nullable<Binary>,
        endpoint -> Text,
        model -> Text,
        stream -> Bool,
        started_at -> BigInt,
        state -> Text,
        status -> Nullable<Integer>,
        estimated -> Bool,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        cost -> BigInt,
        ttfb_us -> Nullable<BigInt>,
        duration_us -> Nullable<BigInt>,
        attempts -> Integer,
        resource -> Text,
        deployment -> Text,
        attempt_status -> Nullable<Integer>,
        reason -> Nullable<Text>,
        attempt_us -> Nullable<BigInt>,
        charge -> Nullable<Text>,
        upstream_id -> Nullable<Text>,
        flat_cost -> Bool,
    }
}

diesel::table! {
    attempts (request, n) {
        request -> Binary,
        n -> Integer,
        resource -> Text,
        deployment -> Text,
        status -> Nullable<Integer>,
        reason -> Text,
        duration_us -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        charge -> Text,
        upstream_id -> Nullable<Text>,
    }
}

diesel::table! {
    usage_hourly (hour, key_id, user_id, model, resource) {
        hour -> BigInt,
        key_id -> Binary,
        user_id -> Binary,
        model -> Text,
        resource -> Text,
        requests -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        reasoning_tokens -> BigInt,
        cost -> BigInt,
        errors -> BigInt,
        cancelled -> BigInt,
        estimated -> BigInt,
        flat_cost -> BigInt,
    }
}

diesel::table! {
    pins (id) {
        id -> Text,
        key_id -> Binary,
        resource -> Text,
        deployment -> Text,
        model -> Text,
        created_at -> BigInt,
        expires_at -> BigInt,
        kind -> Text,
        purpose -> Text,
    }
}

diesel::table! {
    admin_keys (id) {
        id -> Binary,
        name -> Text,
        hash -> Binary,
        scopes -> Text,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    old_secrets (hash) {
        hash -> Binary,
        key_id -> Binary,
        expires_at -> BigInt,
    }
}

diesel::table! {
    audit (id) {
        id -> Binary,
        at -> BigInt,
        actor -> Text,
        actor_name -> Text,
        address -> Nullable<Text>,
        request_id -> Nullable<Text>,
        action -> Text,
        target -> Text,
        before -> Nullable<Text>,
        after -> Nullable<Text>,
    }
}

diesel::table! {
    idempotency (id) {
        id -> Binary,
        fingerprint -> Binary,
        status -> Nullable<Integer>,
        answer -> Nullable<Binary>,
        created_at -> BigInt,
        expires_at -> BigInt,
    }
}

diesel::table! {
    legacy_users (key_id) {
        key_id -> Binary,
        name -> Text,
        origin -> Text,
        status -> Integer,
        count -> BigInt,
    }
}

diesel::table! {
    unprojected (seq) {
        seq -> BigInt,
        request -> Nullable<Binary>,
        pin -> Nullable<Text>,
        refused -> Nullable<Text>,
    }
}

diesel::table! {
    applied (replica) {
        replica -> Binary,
        seq -> BigInt,
        epoch -> BigInt,
    }
}

diesel::table! {
    replicas (id) {
        id -> Binary,
        seen_at -> BigInt,
    }
}

diesel::joinable!(keys -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(keys, users);
