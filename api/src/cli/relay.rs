//! `stepwise relay`: runs the outbox relay alone.

use std::sync::Arc;

use clap::Args as ClapArgs;

use super::{
    Failure, Shutdown, broker,
    database::{self, Database, Role},
    doctor,
    folder::Folder,
    keys,
    output::say,
    parts::{ENOUGH, Monitoring, Parts, shop_url},
    settings::Settings,
};
use crate::{monitor::Monitor, readiness::Readiness};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Declare the exchange and the archive at the broker, and end. Use it when they were destroyed
    #[arg(long)]
    declare: bool,
    /// Forget the broker to which this database publishes, and end. Use it when events are to be published on /v1/events/stream only
    #[arg(long, conflicts_with = "declare")]
    forget_broker: bool,
    #[command(flatten)]
    monitoring: Monitoring,
}

/// Publishes events until the process is told to stop.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let address = broker::address(settings)?;
    if args.forget_broker {
        let db = database::connect(settings, 1).await?;
        broker::forget(&db).await?;
        say!("the broker is forgotten; start every relay and `up` again without --amqp-url");
        return Ok(());
    }
    let folder = Folder::open(&settings.data_dir)?;
    if args.declare {
        let Some(address) = address else {
            return Err(Failure::usage(
                "no broker is given: give --amqp-url (or STEPWISE_AMQP_URL)",
            ));
        };
        let db = database::connect(settings, 1).await?;
        broker::declare(address, Arc::new(keys::open(&folder, &db).await?), db).await?;
        say!("the exchange and the archive are declared; partners must bind their queues");
        return Ok(());
    }
    let shutdown = Shutdown::on_signal()?;
    let database = Database::given(settings).await?;
    database.has_room_for(Role::Relay).await?;
    database.verify().await?;
    let _watched = database.watch();
    let keys = Arc::new(keys::open(&folder, &database.keys_pool()).await?);
    let pool = database.relay_pool();
    let broker = broker::open(address, keys, pool.clone(), &shop_url(settings)).await?;
    let mut parts = Parts::new(shutdown.token());
    let relay = parts.relay(pool, Arc::clone(&broker.publisher), settings);
    let mut readiness = Readiness::default().with_relay(relay);
    if broker.is_rabbit {
        readiness = readiness.with_broker(broker.publisher);
    }
    let monitor = Monitor::new(database.monitor_pool(), readiness);
    parts.monitor(settings, &args.monitoring, monitor).await?;
    doctor::log_faults(settings);
    parts.run(ENOUGH).await
}
