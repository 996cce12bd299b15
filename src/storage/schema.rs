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
        tpm -> Nullable<BigInt>,
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
        price_version -> Nullable<BigInt>,
        chained -> Nullable<BigInt>,
        chain -> Nullable<Binary>,
        audio_input_tokens -> BigInt,
        audio_output_tokens -> BigInt,
    }
}

diesel::table! {
    chains (number) {
        number -> BigInt,
        began -> BigInt,
        after_row -> BigInt,
        after -> Binary,
        head_row -> BigInt,
        head -> Binary,
        noted -> BigInt,
        base_row -> BigInt,
        base -> Binary,
        format -> BigInt,
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
        audio_input_tokens -> BigInt,
        audio_output_tokens -> BigInt,
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
        audio_input_tokens -> BigInt,
        audio_output_tokens -> BigInt,
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
    underway (told) {
        told -> Binary,
        response -> Text,
        key_id -> Binary,
        user_id -> Nullable<Binary>,
        request_id -> Text,
        resource -> Text,
        deployment -> Text,
        model -> Text,
        input_tokens -> BigInt,
        output_tokens -> BigInt,
        created_at -> BigInt,
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
    quota_lent (owner, period) {
        owner -> Binary,
        period -> BigInt,
        tokens -> BigInt,
        cost -> BigInt,
        unclaimed_tokens -> BigInt,
        unclaimed_cost -> BigInt,
    }
}

diesel::table! {
    quota_leases (owner, period, replica) {
        owner -> Binary,
        period -> BigInt,
        replica -> Binary,
        tokens -> BigInt,
        cost -> BigInt,
    }
}

diesel::table! {
    quota_alarms (owner, period, percent, tokens, cost) {
        owner -> Binary,
        period -> BigInt,
        percent -> Integer,
        tokens -> BigInt,
        cost -> BigInt,
    }
}

diesel::table! {
    pauses (endpoint, deployment) {
        endpoint -> Text,
        deployment -> Text,
        ends_at -> BigInt,
    }
}

diesel::table! {
    replicas (id) {
        id -> Binary,
        seen_at -> BigInt,
    }
}

diesel::table! {
    user_limits (user_id) {
        user_id -> Binary,
        rpm -> Nullable<BigInt>,
        tpm -> Nullable<BigInt>,
        concurrency -> Nullable<BigInt>,
    }
}

diesel::table! {
    quotas (owner) {
        owner -> Binary,
        owner_kind -> Text,
        period -> Text,
        time_zone -> Nullable<Text>,
        tokens -> Nullable<BigInt>,
        cost -> Nullable<BigInt>,
        updated_at -> BigInt,
    }
}

diesel::table! {
    quota_grants (id) {
        id -> Binary,
        owner -> Binary,
        tokens -> Nullable<BigInt>,
        cost -> Nullable<BigInt>,
        reason -> Nullable<Text>,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        withdrawn_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    prices (version) {
        version -> BigInt,
        input -> BigInt,
        cached_input -> BigInt,
        output -> BigInt,
        reasoning -> Nullable<BigInt>,
        audio_input -> Nullable<BigInt>,
        audio_output -> Nullable<BigInt>,
        first_seen -> BigInt,
    }
}

diesel::joinable!(keys -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(keys, users);
