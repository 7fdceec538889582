//! `headgate adapter`: the sources of one kind alone, what an adapter's own Deployment runs.

use crate::{
    Failure,
    admin::access::Secret,
    args, features,
    run::{self, Alone},
};

pub(super) async fn adapter(args: args::Adapter, operate: Option<Secret>) -> Result<(), Failure> {
    if !matches!(args.sink.scheme(), "http" | "https") {
        return Err(Failure::Usage(format!(
            "--sink {}: expected an http or https URL",
            args.sink
        )));
    }
    if let Some(lack) = features::lacks_source(args.kind) {
        return Err(Failure::Usage(format!("{}: {lack}", args.kind)));
    }
    let alone = Alone {
        kind: args.kind,
        sink: args.sink,
        state: args.state.zip(args.state_uid),
    };
    let run = args::Run {
        paths: args.paths,
        listen: args.listen,
        admin: args.admin,
        tls: args::Tls::default(),
        access: args.access,
        data: args.data,
        secrets: args.secrets,
        public_url: args.public_url,
        grace: args.grace,
        // The default provisioner of channels, which it has none of.
        max_body_bytes: 1 << 20,
        max_hops: 32,
        memory_budget: channel_memory::Budget::DEFAULT_BYTES,
        default_provisioner: spec::DEFAULT_PROVISIONER.to_owned(),
        egress: args.egress,
        cluster: args::Cluster::none(),
        kube_context: args.kube_context,
    };
    run::run(run, Some(alone), operate).await
}
