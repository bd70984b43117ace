//! Setting a flag: by a cutover where the group has a standby, else by editing the configuration file and making the proxy follow.

use std::sync::Arc;

use super::super::control::Running;
use super::super::protocol::{Cause, Failure, FailureKind, FlagRequest, Flagged};
use crate::config::edit::{self, EditError};

/// Edits the file that the proxy serves, with the proxy's own environment, and makes it follow.
///
/// # Errors
/// [`FailureKind::File`] where this process may not write the file; the caller may be able to.
pub(super) async fn flag(request: FlagRequest, running: &Arc<dyn Running>) -> Result<Flagged, Failure> {
    let kept = running.status().groups.into_iter().any(|g| g.name == request.group && g.standby.is_some());
    if request.dry_run && !kept {
        let text = format!("{} has no standby: its flag moves at once, there are no steps to show", request.group);
        return Err(Failure::new(FailureKind::Request, text));
    }
    // Before the file is touched: a refused flip leaves it as it was.
    let ties = if request.cause.force { Vec::new() } else { running.may_flip(&request.group, &request.store).await? };
    if kept {
        let mut flagged = running.cut_over(request).await?;
        flagged.notes.extend(ties);
        return Ok(flagged);
    }
    running.announce(&request.cause);
    let path = running.config_path().to_owned();
    let FlagRequest { group, store, cause, .. } = request;
    let edited = tokio::task::spawn_blocking(move || edit::set_connection(&path, &group, &store)).await;
    let edited = edited.map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
    let edit = edited.map_err(|error| {
        // Nothing changed: the next change of the file has another cause.
        running.announce(&Cause::default());
        edit_failure(&error)
    })?;
    let reloaded = running.reload(cause).await?;
    let notes = edit.notes.into_iter().chain(ties).collect();
    Ok(Flagged {
        group: edit.group,
        from: edit.from,
        to: edit.to,
        changed: edit.changed,
        epoch: reloaded.epoch,
        file: edit.file,
        notes,
    })
}

fn edit_failure(error: &EditError) -> Failure {
    let kind = match error {
        EditError::Config(_) | EditError::NotEditable(_) => FailureKind::Config,
        EditError::UnknownName(_) => FailureKind::Request,
        EditError::Busy(_) => FailureKind::Timeout,
        EditError::Io { .. } => FailureKind::File,
    };
    Failure::new(kind, error.to_string())
}
