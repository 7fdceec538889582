//! `headgate adapter`: the sources of one kind alone, what an adapter's own Deployment runs.

use crate::{
    Failure, args,
    run::{self, Alone},
};

pub(super) async fn adapter(args: args::Adapter, admin_token: Option<String>) -> Result<(), Failure> {
    if !matches!(args.sink.scheme(), "http" | "https") {
        return Err(Failure::Usage(format!(
            "--sink {}: expected an http or https URL",
            args.sink
        )));
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
        data: args.data,
        secrets: args.secrets,
        public_url: args.public_url,
        grace: args.grace,
        // Of channels, which it has none of.
        max_body_bytes: 1 << 20,
        max_hops: 32,
        default_provisioner: spec::DEFAULT_PROVISIONER.to_owned(),
        cluster: args::Cluster::none(),
        kube_context: args.kube_context,
    };
    run::run(run, Some(alone), admin_token).await
}
