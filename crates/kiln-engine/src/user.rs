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
    /// From the contents of the two files; fields that are missing are empty, numbers that cannot
    /// be read are 0.
    pub(crate) fn parse(passwd: &str, group: &str) -> Self {
        let number = |field: &str| field.parse().unwrap_or(0);
        let users = fields(passwd).map(|fields| User {
            name: fields(0).to_owned(),
            uid: number(fields(2)),
            gid: number(fields(3)),
            home: fields(5).to_owned(),
        });
        let groups = fields(group).map(|fields| {
            let members = fields(3).split(',').filter(|name| !name.is_empty());
            Group {
                name: fields(0).to_owned(),
                gid: number(fields(2)),
                members: members.map(str::to_owned).collect(),
            }
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

    /// Resolves `--chown` and the owner of a WORKDIR over these accounts, by BuildKit's rules: an
    /// unknown user is 0:0, a number is its own group, an unknown group leaves the user's, and an
    /// empty user or group is 0.
    pub(crate) fn owner(&self, spec: &str) -> (u32, u32) {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (spec, None),
        };
        let (uid, own_gid) = match OwnerId::parse(user) {
            OwnerId::Number(id) => (id, id),
            OwnerId::Name => {
                let known = self.users.iter().find(|known| known.name == user);
                known.map_or((0, 0), |known| (known.uid, known.gid))
            }
        };
        let gid = match group.map(|group| (group, OwnerId::parse(group))) {
            None => own_gid,
            Some((_, OwnerId::Number(id))) => id,
            Some((group, OwnerId::Name)) => self.group(group).map_or(own_gid, |known| known.gid),
        };
        (uid, gid)
    }

    fn group(&self, text: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == text)
    }
}

/// The lines of such a file that are not empty, each as its fields.
fn fields<'a>(text: &'a str) -> impl Iterator<Item = impl Fn(usize) -> &'a str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| move |position| line.split(':').nth(position).unwrap_or(""))
}

/// A user or group of `--chown`.
enum OwnerId {
    /// One that needs no file.
    Number(u32),
    /// One to look up.
    Name,
}

impl OwnerId {
    /// `root` and nothing at all are 0; numbers are those of 32 bits with a sign, so that greater
    /// ones are names. -1 changes nothing, and what is copied was made by root.
    fn parse(text: &str) -> Self {
        match text {
            "" | "root" | "-1" => Self::Number(0),
            text => text
                .parse::<i32>()
                .map_or(Self::Name, |number| Self::Number(number.cast_unsigned())),
        }
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
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    [user, group].iter().any(|part| matches!(OwnerId::parse(part), OwnerId::Name))
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
        assert_eq!(owner("alice:phantoms"), (1000, 1001));
        assert_eq!(owner("4:phantoms"), (4, 4));
        assert_eq!(owner("alice:"), (1000, 0));
        assert_eq!(owner(":staff"), (0, 50));
        assert_eq!(owner("-1:2147483648"), (0, 0));
        assert_eq!(owner("-2:root"), (u32::MAX - 1, 0));
        assert!(has_names("alice") && has_names("1:staff") && has_names("4294967295"));
        assert!(!has_names("root:0") && !has_names(":") && !has_names("-2"));
        assert_eq!(owner("alice:staff"), (1000, 50));
    }
}
