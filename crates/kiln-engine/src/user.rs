//! Users and groups as the image's own `/etc/passwd` and `/etc/group` know them.
//!
//! Rules are BuildKit's and runc's, which differ between RUN and `--chown`: see
//! [`Accounts::process_user`] and [`Accounts::owner`].

/// The two files, parsed. A missing file is an empty one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// As whom a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessUser {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

impl Accounts {
    /// From the contents of the two files; lines that cannot be read are left out.
    pub(crate) fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.trim().split(':').collect();
            Some(User {
                name: fields.first()?.to_string(),
                uid: fields.get(2)?.parse().ok()?,
                gid: fields.get(3)?.parse().ok()?,
                home: fields.get(5).unwrap_or(&"").to_string(),
            })
        });
        let groups = group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.trim().split(':').collect();
            let members = fields.get(3).unwrap_or(&"").split(',').filter(|name| !name.is_empty());
            Some(Group {
                name: fields.first()?.to_string(),
                gid: fields.get(2)?.parse().ok()?,
                members: members.map(str::to_owned).collect(),
            })
        });
        Self { users: users.collect(), groups: groups.collect() }
    }

    /// Resolves `USER`: `name`, `uid`, `name:group`. A number is never a name. A uid that passwd
    /// does not know has gid 0; a group given by hand means no groups but this one. The home is
    /// that of the first user with this uid, or `/`.
    ///
    /// # Errors
    /// A message when a name is not known or a number is out of range.
    pub(crate) fn process_user(&self, spec: &str) -> Result<ProcessUser, String> {
        let mut parts = spec.split(':');
        let (user, group) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let number = id_number(user)?;
        let group_number = id_number(group)?;
        let known = self.users.iter().find(|known| match (user, number) {
            ("", _) => known.uid == 0,
            (_, Some(uid)) => known.uid == uid,
            (name, None) => known.name == name,
        });
        let uid = match (known, number) {
            (Some(known), _) => known.uid,
            (None, Some(uid)) => uid,
            (None, None) if user.is_empty() => 0,
            (None, None) => {
                return Err(format!(
                    "unable to find user {user}: no matching entries in passwd file"
                ));
            }
        };
        let gid = match (group, group_number) {
            ("", _) => known.map_or(0, |known| known.gid),
            (_, Some(gid)) => gid,
            (name, None) => {
                let what = "no matching entries in group file";
                let unknown = || format!("unable to find group {group}: {what}");
                self.group(name).ok_or_else(unknown)?.gid
            }
        };
        // The primary group is always one of them (BuildKit).
        let mut groups = vec![gid];
        if let ("", Some(known)) = (group, known) {
            let member = |group: &&Group| group.members.contains(&known.name);
            groups.extend(self.groups.iter().filter(member).map(|group| group.gid));
        }
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|gid| seen.insert(*gid));
        let home = self.users.iter().find(|user| user.uid == uid).map(|user| user.home.clone());
        Ok(ProcessUser { uid, gid, groups, home: home.unwrap_or_else(|| "/".to_owned()) })
    }

    /// Resolves `--chown` and the owner of a WORKDIR over these accounts: an unknown user is 0:0,
    /// an unknown group takes the uid (BuildKit's behaviour).
    pub(crate) fn owner(&self, spec: &str) -> (u32, u32) {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (spec, None),
        };
        let known = self.user(user);
        let (uid, own_gid) = match (user.parse::<u32>(), known) {
            (Ok(uid), _) => (uid, uid),
            (Err(_), Some(known)) => (known.uid, known.gid),
            (Err(_), None) => (0, 0),
        };
        let gid = match group {
            None | Some("") => own_gid,
            Some(group) => match (group.parse(), self.group(group)) {
                (Ok(gid), _) => gid,
                (Err(_), Some(known)) => known.gid,
                (Err(_), None) => uid,
            },
        };
        (uid, gid)
    }

    fn user(&self, text: &str) -> Option<&User> {
        let by_name = self.users.iter().find(|user| user.name == text);
        by_name.or_else(|| {
            let uid: u32 = text.parse().ok()?;
            self.users.iter().find(|user| user.uid == uid)
        })
    }

    fn group(&self, text: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == text)
    }
}

/// An id that is written as a number; `None` for a name.
fn id_number(text: &str) -> Result<Option<u32>, String> {
    match text.parse::<i64>() {
        Ok(number) if (0..=i64::from(i32::MAX)).contains(&number) => Ok(Some(number as u32)),
        Ok(_) => Err("uids and gids must be in range 0-2147483647".to_owned()),
        Err(_) => Ok(None),
    }
}

/// Whether a `--chown` needs names looked up.
pub(crate) fn has_names(spec: &str) -> bool {
    spec.split(':').any(|part| !part.is_empty() && part.parse::<u32>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\nbroken\n",
            "root:x:0:\nalice:x:1001:\nstaff:x:50:bob,alice\nempty:x:7:\n",
        )
    }

    #[test]
    fn commands_run_as_the_image_says() {
        let user = |spec: &str| accounts().process_user(spec);
        let alice = ProcessUser {
            uid: 1000,
            gid: 1001,
            groups: vec![1001, 50],
            home: "/home/alice".to_owned(),
        };
        assert_eq!(user("alice"), Ok(alice.clone()));
        assert_eq!(user("1000"), Ok(alice));
        assert_eq!(user("").map(|u| (u.uid, u.home)), Ok((0, "/root".to_owned())));
        assert_eq!(user("4242").map(|u| (u.uid, u.gid, u.home)), Ok((4242, 0, "/".to_owned())));
        assert_eq!(user("alice:staff").map(|u| (u.gid, u.groups)), Ok((50, vec![50])));
        assert_eq!(user("alice:9").map(|u| u.gid), Ok(9));
        assert!(user("ghost").is_err());
        assert!(user("-5").is_err() && user("2147483648").is_err());
        assert!(user("alice:ghosts").is_err());
    }

    #[test]
    fn unknown_owners_are_what_buildkit_makes_of_them() {
        let owner = |spec: &str| accounts().owner(spec);
        assert_eq!(owner("alice"), (1000, 1001));
        assert_eq!(owner("1234"), (1234, 1234));
        assert_eq!(owner("1:2"), (1, 2));
        assert_eq!(owner("ghost"), (0, 0));
        assert_eq!(owner("alice:phantoms"), (1000, 1000));
        assert_eq!(owner("alice:staff"), (1000, 50));
    }
}
